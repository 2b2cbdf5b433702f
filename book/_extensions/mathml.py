"""Mathematics as MathML, made when the book is built: no script and no network."""

import re
from typing import Any

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.util.math import get_node_equation_number
from sphinx.writers.html5 import HTML5Translator


def inline(translator: HTML5Translator, node: nodes.math) -> None:
    """Write a formula within a line."""
    translator.body.append(_mathml(node, "inline"))
    raise nodes.SkipNode


def block(translator: HTML5Translator, node: nodes.math_block) -> None:
    """Write a displayed formula, and its number if it has a label."""
    translator.body.append(translator.starttag(node, "div", CLASS="math"))
    translator.body.append(_mathml(node, "block"))
    if node.get("label"):
        number = get_node_equation_number(translator, node)
        translator.body.append(f'<span class="eqno">({number})</span>')
    translator.body.append("</div>\n")
    raise nodes.SkipNode


def _mathml(node: nodes.Element, display: str) -> str:
    latex = re.sub(r"\{align(ed)?\}", "{align*}", node.astext())  # the number is Sphinx's
    mathml = convert(latex, display=display)
    if "\\" in mathml or "&</mi>" in mathml:
        logging.getLogger(__name__).warning("no MathML for %s", latex, location=node)
    bar = '<mo lspace="0" rspace="0" stretchy="false">&#x0007C;</mo>'
    return re.sub(r'<mo( stretchy="false")?>&#x0007C;</mo>', bar, mathml)


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the renderer with Sphinx."""
    app.add_html_math_renderer("mathml", (inline, None), (block, None))
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
