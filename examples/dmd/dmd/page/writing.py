"""One page as one file: its text, its style, its charts, and plotly to draw them."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from ..report import write_text
from .figure import Figure

HERE = Path(__file__).parent


def write_page(path: Path, template: str, content: Mapping[str, Any]) -> None:
    """Fill a template and write it.

    Text from the data cannot become markup: Jinja escapes what stands in the page, charts travel as JSON without any
    `<`, and the page's policy lets no script run but these two, and nothing reach a network.

    Args:
        path: of the page.
        template: its name, such as "run.html".
        content: what the template shows; every :class:`Figure` in it, however deep, is drawn.
    """
    import jinja2

    figures: dict[str, Any] = {}

    def draw(figure: Figure, kind: str = "") -> dict[str, Any]:
        name = f"figure-{len(figures)}"
        figures[name] = figure.drawn()
        return {"name": name, "kind": kind, "figure": figure}

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    script, library = (HERE / "page.js").read_text(encoding="utf-8"), _library()
    environment.globals |= {
        "draw": draw,
        "style": (HERE / "page.css").read_text(encoding="utf-8"),
        "script": script,
        "library": library[0],
        "policy": _policy(script, library[1]),
        "figures": lambda: _json(figures),
    }
    write_text(path, environment.get_template(template).render(content))


def _json(value: object) -> str:
    """JSON that can stand inside a script element: no `<` ends it, no `&` is taken for an entity."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for letter in "<>&\u2028\u2029":
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    return text


@cache
def _library() -> tuple[str, str]:
    """plotly's script, compressed, in base64; and the checksum that the page's policy knows it by.

    The package has one bundle, of all kinds of charts: 4.8 MB, of which 2.0 MB are left.
    """
    from plotly.offline import get_plotlyjs

    script = get_plotlyjs()
    packed = gzip.compress(script.encode(), 6, mtime=0)
    return base64.b64encode(packed).decode(), _checksum(script)


def _policy(script: str, library: str) -> str:
    """What the page may do: run the scripts of these checksums, and have pictures of its own making."""
    allowed = f"script-src '{_checksum(script)}' '{library}'"
    rest = "style-src 'unsafe-inline'; img-src data: blob:; base-uri 'none'; form-action 'none'"
    return f"default-src 'none'; {allowed}; {rest}"


def _checksum(script: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}"
