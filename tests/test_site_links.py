"""Links, anchors and alternative texts of the written pages, without building them; external links by their form."""

import ast
import re
from collections import Counter
from functools import cache
from importlib import import_module
from pathlib import Path
from urllib.parse import urlsplit

import pytest

import gdkit

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [
    path
    for pattern in ("*.md", "docs/**/*.md", "examples/**/README.md", "benchmarks/results/*.md")
    for path in sorted(ROOT.glob(pattern))
    if "_build" not in path.parts and "runs" not in path.parts
]
FENCE = re.compile(r"^(`{3,}|~{3,})(.*?)\n(.*?)^\1\s*$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\[\]]*\])*)\]\(([^)\s]*)(?:\s+\"[^\"]*\")?\)")
ROLE = re.compile(r"\{py:(\w+)\}`~?([\w.]+)`")


@cache
def prose(page):
    """A page without its code, in which a link would not be one."""
    return re.sub(r"(`+)(?!`)[^`]*?\1", "code", FENCE.sub("", page.read_text()))


@cache
def anchors(page):
    """What a link may point at: a slug a heading, as GitHub and MyST make them, and explicit targets."""
    text = FENCE.sub("", page.read_text())
    for directive in FENCE.finditer(page.read_text()):
        if directive[2].strip().startswith("{include}"):
            text += FENCE.sub("", (page.parent / directive[2].split()[1]).read_text())
    seen, found = Counter(), set(re.findall(r"^\(([\w-]+)\)=$", text, re.MULTILINE))
    for heading in re.findall(r"^#{1,4} +(.+?) *$", text, re.MULTILINE):
        heading = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "")
        slug = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        found.add(slug if not seen[slug] else f"{slug}-{seen[slug]}")
        seen[slug] += 1
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_and_pictures(page):
    wrong = []
    for picture, text, target in LINK.findall(prose(page)):
        if picture and not text.strip():
            wrong.append(f"{target}: no alternative text")
        address = urlsplit(target)
        if address.scheme or address.netloc:
            if address.scheme not in ("https", "http", "mailto") or not (address.netloc or address.path):
                wrong.append(f"{target}: not an address")
            continue
        path = (page.parent / address.path).resolve() if address.path else page
        if not path.exists() or not path.is_relative_to(ROOT):
            wrong.append(f"{target}: there is no such file")
        elif address.fragment and address.fragment not in anchors(path):
            wrong.append(f"{target}: there is no such heading")
        elif not picture and not text and (DOCS not in page.parents or path.suffix != ".md"):
            wrong.append(f"{target}: a link without a text outside the pages that are built")
    for name, option in re.findall(r"^```\{(figure|image)\} (\S+)$", page.read_text(), re.MULTILINE):
        block = page.read_text().split(f"```{{{name}}} {option}")[1].split("```")[0]
        if not (page.parent / option).exists() or ":alt: " not in block:
            wrong.append(f"{option}: missing, or without alternative text")
    assert not wrong


@pytest.mark.parametrize("page", sorted(DOCS.rglob("*.md")), ids=lambda page: str(page.relative_to(ROOT)))
def test_roles_name_what_there_is(page):
    for _, name in ROLE.findall(page.read_text()):
        parts = name.split(".")
        value = gdkit
        for depth, part in enumerate(parts[1:], start=1):
            value = getattr(value, part, None) or import_module(".".join(parts[: depth + 1]))
        assert parts[0] == "gdkit"


def test_every_page_is_in_the_menu():
    index = (DOCS / "index.md").read_text()
    listed = {line for block in re.findall(r"```\{toctree\}\n(.*?)```", index, re.DOTALL) for line in block.split("\n")}
    pages = {
        path.relative_to(DOCS).with_suffix("").as_posix() for path in DOCS.rglob("*.md") if "_build" not in path.parts
    }
    in_a_list_of_their_own = {page for page in pages if page.startswith("tutorials/") and page != "tutorials/index"}
    missing = pages - {"index"} - listed - in_a_list_of_their_own
    assert not missing


def documented():
    """The names that docs/api.md has an entry for, by automodule those of a module's public names."""
    text, names = (DOCS / "api.md").read_text(), set()
    for kind, name in re.findall(r"^\.\. auto(class|function|module):: (\S+)$", text, re.MULTILINE):
        name = name if name.startswith("gdkit.") else f"gdkit.{name}"
        names |= {f"{name}.{each}" for each in public(name.split(".")[1])} if kind == "module" else {name}
    return names


def public(module):
    """A module's public functions and classes: those that it defines, or names in __all__."""
    found = import_module(f"gdkit.{module}")
    tree = ast.parse(Path(found.__file__).read_text())
    defined = {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    return set(getattr(found, "__all__", ())) or {name for name in defined if not name.startswith("_")}


def test_api_page_is_complete():
    wanted = {f"gdkit.{name}" for name in gdkit.__all__ if not name.startswith("__")}
    for module in ("attention", "functional", "plot", "stacking", "testing"):
        wanted |= {f"gdkit.{module}.{name}" for name in public(module) if not name.isupper()}
    assert wanted <= documented()
    assert "gdkit.functional.agreement" in documented()


def test_options_in_the_pages_exist():
    from dataclasses import asdict

    from dmd.config import RunConfig, flat_fields

    known = set(flat_fields(asdict(RunConfig())))
    for page in PAGES:
        for option in re.findall(r"--((?:model|objective)\.[\w.-]*\w)", page.read_text()):
            name = option.replace("-", "_")
            assert name in known or any(field.startswith(f"{name}.") for field in known), f"{page.name}: --{option}"


def options(script):
    """The options of a command of the example, read from its source: added by name, or as a function's arguments."""
    from dataclasses import asdict

    from dmd.config import RunConfig, flat_fields

    tree = ast.parse(script.read_text())
    names = {"help"} | {name.replace("-", "_") for name in re.findall(r'"--([\w-]+)"', script.read_text())}
    functions = {node.name: node.args for node in tree.body if isinstance(node, ast.FunctionDef)}
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        if ast.unparse(call.func).endswith(".add_function_arguments"):
            given = functions[call.args[0].id]
            is_positional = any(keyword.arg == "as_positional" for keyword in call.keywords)
            names |= {each.arg for each in given.args[len(given.args) - len(given.defaults) if is_positional else 0 :]}
    return names | set(flat_fields(asdict(RunConfig()))) if script.stem == "train" else names


def test_options_of_commands_in_the_pages_exist():
    scripts = {path.name: options(path) for path in (ROOT / "examples/dmd").glob("*.py")}
    wrong, seen = [], 0
    for page in PAGES:
        text = page.read_text().replace("\\\n", " ")
        text = re.sub(r"(?<!`)`[^`]+`(?!`)", lambda code: code[0].replace("\n", " "), text)
        for name, rest in re.findall(r"(?<![\w/])(?:examples/dmd/)?(\w+\.py)\b([^\n`#|]*)", text):
            for option in re.findall(r"(?<=\s)--([a-z][\w.-]*)", rest if name in scripts else ""):
                seen += 1
                if option.replace("-", "_") not in scripts[name]:
                    wrong.append(f"{page.name}: {name} --{option}")
    assert not wrong
    assert seen > 50


def test_published_prior_in_the_pages_is_the_program_s():
    from dmd.released_objective import favouring_prior

    text = (DOCS / "from-published.md").read_text()
    for option, favoured in (("prior", [0, 0, 1, 0, 1, 0]), ("hetero_prior", [0, 0, 1, 0, 1, 1])):
        shown = re.search(rf"--objective\.distillation\.{option} '\[(.*?)\]'", text)[1]
        assert [float(x) for x in shown.split(",")] == pytest.approx(favouring_prior(favoured), abs=5e-5)


def test_pictures_of_the_equations_are_drawn(tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    import runpy

    monkeypatch.syspath_prepend(str(DOCS / "images"))
    drawn = runpy.run_path(str(DOCS / "images" / "concepts.py"))["draw"](tmp_path)
    shown = re.findall(r"images/concepts/(\S+?)\)", (DOCS / "concepts.md").read_text())
    kept = {path.name for path in (DOCS / "images" / "concepts").iterdir()}
    assert {path.name for path in drawn} == set(shown) == kept
    assert all(1000 < path.stat().st_size < 60_000 for path in drawn)
