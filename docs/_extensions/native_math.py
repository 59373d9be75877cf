"""Equations as MathML, written when the pages are built: browsers draw it, without a script, a font or a network.

docutils turns the TeX into MathML. What it does not know is an error of the build, with the place of the equation.
"""

from __future__ import annotations

import re

from docutils import nodes
from docutils.utils.math import MathError, latex2mathml
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.writers.html5 import HTML5Translator

logger = logging.getLogger(__name__)
TAG = re.compile(r"\\tag\{([^}]*)\}")
BIG = re.compile(r"\\big(?=([(\[)\]]))")
ACCENT = re.compile(r"\\(bar|hat|tilde) (\w)")  # an index after it would stand below the letter
NORM = re.compile(r"<mo( class=\"math(open|close)\")?>‖</mo>")  # else the left one grows with the line, and only that


def mathml(tex: str, node: nodes.Node, *, block: bool) -> str:
    """TeX to MathML; the text itself, and a warning, where that fails."""
    sides = {"(": "l", "[": "l", ")": "r", "]": "r"}
    tex = BIG.sub(lambda match: rf"\big{sides[match[1]]}", tex)
    tex = ACCENT.sub(r"\\\1{\2}{}", tex)
    try:
        equation = latex2mathml.tex2mathml(tex.strip(), as_block=block)
        return NORM.sub(r'<mo stretchy="false">‖</mo>', equation)
    except MathError as error:
        logger.warning("equation not understood: %s: %s", error, tex.strip(), location=node, type="math")
        return f"<code>{tex}</code>"


def visit_inline(self: HTML5Translator, node: nodes.math) -> None:
    """An equation within a line."""
    self.body.append(f'<span class="math notranslate">{mathml(node.astext(), node, block=False)}</span>')
    raise nodes.SkipNode


def visit_block(self: HTML5Translator, node: nodes.math_block) -> None:
    r"""An equation of its own, with the number of ``\tag{...}`` at the right."""
    tex = node.astext()
    number = TAG.search(tex)
    label = f'<span class="eqno">({number[1]})</span>' if number else ""
    equation = mathml(TAG.sub("", tex).replace("\n\n", r" \\ "), node, block=True)
    # A box that scrolls must be reachable by keyboard.
    self.body.append(
        f'<div class="math notranslate"><div class="equation" tabindex="0">{equation}</div>{label}</div>\n'
    )
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    app.add_html_math_renderer("native", inline_renderers=(visit_inline, None), block_renderers=(visit_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
