"""How long a page takes to read, under its title."""

from typing import Any

from docutils import nodes
from sphinx.application import Sphinx

WORDS_A_MINUTE = 200
MINUTES_A_FIGURE = 0.5
TIMED = ("book/index", "book/q")
"""Pages that are read from top to bottom; in the appendix one looks things up."""


def minutes(tree: nodes.document) -> int:
    """Minutes for the prose, tables and figures of a page, without code and what is folded."""
    words, folded = 0, False
    for node in tree.findall(lambda own: isinstance(own, nodes.raw | nodes.paragraph)):
        text = node.astext()
        if isinstance(node, nodes.paragraph):
            words += 0 if folded else len(text.split())
        elif "details>" in text:
            folded = not text.rstrip().endswith("</details>")
    figures = sum(1 for _ in tree.findall(nodes.figure))
    return max(1, round(words / WORDS_A_MINUTE + figures * MINUTES_A_FIGURE))


def add(_app: Sphinx, page: str, _template: str, context: dict[str, Any], tree: Any) -> None:
    """Put the line under the title of a page that is read from top to bottom."""
    if tree is None or not page.startswith(TIMED):
        return
    count = minutes(tree)
    line = f"About {count} minute{'s' if count > 1 else ''} to read"
    context["body"] = context["body"].replace(
        "</h1>", f'</h1>\n<p class="reading-time">{line}</p>', 1
    )


def setup(app: Sphinx) -> dict[str, Any]:
    """Look at each page before it is written."""
    app.connect("html-page-context", add)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
