"""Markup of other packages that a screen reader stumbles over, mended as each page is written."""

import re
from typing import Any

from sphinx.application import Sphinx

MENDED = {
    # myst-nb names the button above a hidden cell otherwise than it shows: "Show the code".
    '<summary aria-label="Toggle hidden content">': "<summary>",
    # Docutils calls the bibliography a list whose entries are not items of a list.
    '<div role="list" class="citation-list">': '<div class="citation-list">',
}
PERSIAN_TITLE = re.compile("<h1>(?=[\u0600-\u06ff])")


def mend(_app: Sphinx, _page: str, _template: str, context: dict[str, Any], _tree: Any) -> None:
    """Replace the faulty markup in the body of a page, and say where a title is Persian."""
    if "body" in context:
        for faulty, right in MENDED.items():
            context["body"] = context["body"].replace(faulty, right)
        context["body"] = PERSIAN_TITLE.sub('<h1 lang="fa" dir="rtl">', context["body"])


def setup(app: Sphinx) -> dict[str, Any]:
    """Look at each page before it is written."""
    app.connect("html-page-context", mend)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
