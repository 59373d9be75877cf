"""Read configurations that a stranger wrote: YAML and JSON of plain values, of a moderate size, and nothing else.

jsonargparse imports the module that `class_path` names before it finds that no class is wanted there, copies shared
YAML nodes each time that they are used, and takes text where a group of options is wanted as the path of a further
file. None of it is needed here, so a configuration that asks for it is refused before jsonargparse sees it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jsonargparse
import yaml

LARGEST = 2**18  # bytes of a configuration; ours have about 2**12
DEEPEST = 16  # containers inside each other; ours have 3
GROUPS = ("model", "objective", "distillation")  # options that hold options
REFUSED = ("class_path", "init_args", "dict_kwargs", "config", "__path__")


def read_json(path: Path) -> Any:
    """The content of a JSON file.

    Raises:
        ValueError: it is too large, damaged, or nested too deeply.
    """
    with path.open("rb") as file:
        content = file.read(LARGEST + 1)
    if len(content) > LARGEST:
        raise ValueError(f"{path} is larger than {LARGEST} bytes, too large for a configuration")
    try:
        value = json.loads(content.decode("utf-8"), parse_constant=_no_constant)
        _check_depth(value)
    except RecursionError:
        raise ValueError(f"{path}: is nested deeper than {DEEPEST}") from None
    except ValueError as error:
        raise ValueError(f"{path}: {str(error)[:300]}") from error
    return value


def load_yaml(text: str) -> Any:
    """What a YAML file or the value of an option says.

    Raises:
        yaml.YAMLError: it is damaged, or asks for more than plain values.
    """
    if len(text) > LARGEST:
        raise yaml.YAMLError(f"is larger than {LARGEST} letters, too large for a configuration")
    depth = 0
    for event in yaml.parse(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > DEEPEST:
            raise yaml.YAMLError(f"is nested deeper than {DEEPEST}")
        if isinstance(event, yaml.AliasEvent):
            raise yaml.YAMLError(f"uses the alias *{event.anchor}, but a configuration spells each value")
        if getattr(event, "tag", None) and not event.tag.startswith("tag:yaml.org,2002:"):
            raise yaml.YAMLError(f"has the tag {event.tag[:80]!r}, but a configuration has plain values")
    value = jsonargparse.get_loader("yaml")(text)  # a kind of yaml.SafeLoader
    try:
        check_plain(value)
    except ValueError as error:
        raise yaml.YAMLError(str(error)[:300]) from error
    return value


def check_plain(value: Any, where: str = "", depth: int = 0) -> None:
    """Refuse what is nested deeply, or names a class or a further file.

    Raises:
        ValueError: saying where.
    """
    if depth == 0:
        _check_depth(value)
    for name, item in _items(value):
        parts = (name or "").replace("+", "").split(".")  # nested options may be spelled model.dim
        if not set(parts).isdisjoint(REFUSED):
            raise ValueError(f"{where}{name[:60]} is refused: a configuration names no class and no further file")
        if parts[-1] in GROUPS and not isinstance(item, Mapping):
            raise ValueError(f"{where}{name} must hold options, got {str(item)[:60]!r}")
        check_plain(item, f"{where}{name[:60]}." if name is not None else where, depth + 1)


def _check_depth(value: Any, depth: int = 0) -> None:
    if depth > DEEPEST:
        raise ValueError(f"is nested deeper than {DEEPEST}")
    for _, item in _items(value):
        _check_depth(item, depth + 1)


def _items(value: Any) -> Iterator[tuple[str | None, Any]]:
    if isinstance(value, Mapping):
        yield from ((str(name), item) for name, item in value.items())
    elif isinstance(value, list | tuple):
        yield from ((None, item) for item in value)


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no number that JSON knows")


jsonargparse.set_loader("plain_yaml", load_yaml, exceptions=(yaml.YAMLError, ValueError))
