"""jsonargparse's messages about a value, in the words of this project: the option, what it must be, what came."""

from __future__ import annotations

import re

_VALUE = re.compile(r'Parser key "(?P<key>[^"]+)"(?: element (?P<element>\d+))?: (?P<what>.*)')
_EXPECTED = re.compile(r"Expected an? (?P<type>.+?)\. Got value: (?P<value>.*)")
_UNION = re.compile(
    r"Does not validate against any of the Union subtypes Subtypes: \[(?P<type>.+)\] Errors: .* "
    r"Given value: (?P<value>.*)"
)
_NAMES = {"int": "a whole number", "float": "a number", "str": "text", "bool": "true or false", "NoneType": "null"}
_NAMES |= {"list": "a list", "dict": "a mapping"}
_LISTS = {"list[str]": "a list such as [one, two]", "list[float]": "a list of numbers"}
_LISTS |= {"dict[str, int]": "a mapping {name: whole number}", "dict[str, float]": "a mapping {name: number}"}


def reworded(message: str) -> str:
    """The message of an argument error on one line, plainer where it is one about a value."""
    message = " ".join(message.split())
    if not (found := _VALUE.fullmatch(message)):
        return message
    part = f" (value {found['element']})" if found["element"] else ""
    what = _UNION.fullmatch(found["what"]) or _EXPECTED.fullmatch(found["what"])
    if what is None:
        return f"{found['key']}{part}: {found['what']}"
    value = what["value"] if what["value"][:1] in ("[", "{") else repr(what["value"])
    return f"{found['key']}{part} must be {_types(what['type'])}, got {value}"


def _types(text: str) -> str:
    """`<class 'int'>, dict[str, int]` as "a whole number or a mapping {name: whole number}"."""
    names: list[str] = []
    for kind in re.findall(r"<class '\w+'>|[\w.]+\[.*?\]|\w+", text):
        if choices := re.fullmatch(r"(?:typing\.)?Literal\[(.*)\]", kind):
            names += choices[1].split(", ")
        elif plain := re.fullmatch(r"<class '(\w+)'>", kind):
            names.append(_NAMES.get(plain[1], plain[1]))
        else:
            names.append(_LISTS.get(kind, kind))
    return " or ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
