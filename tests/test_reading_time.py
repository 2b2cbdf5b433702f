"""How long a page takes to read, and where that is said."""

from types import SimpleNamespace

import pytest
from docutils import nodes
from docutils.utils import new_document

import reading_time


def page(words: int, figures: int = 0) -> nodes.document:
    document = new_document("page")
    document += nodes.paragraph(text="word " * (words // 2))
    document += nodes.literal_block(text="code = 1\n" * 1000)
    document += nodes.raw(text="<details><summary>Sources</summary>", format="html")
    document += nodes.paragraph(text="folded " * 1000)
    document += nodes.raw(text="</details>", format="html")
    document += nodes.raw(text="<br>", format="html")
    document += nodes.paragraph(text="word " * (words - words // 2))
    document += [nodes.figure() for _ in range(figures)]
    return document


@pytest.mark.parametrize(
    ("words", "figures", "minutes"), [(0, 0, 1), (600, 0, 3), (600, 4, 5), (790, 0, 4)]
)
def test_prose_and_figures_take_time_but_not_code_or_what_is_folded(
    words, figures, minutes
) -> None:
    assert reading_time.minutes(page(words, figures)) == minutes


@pytest.mark.parametrize(
    ("name", "tree", "line"),
    [
        ("book/q1/1_1_model", page(600), "About 3 minutes to read"),
        ("book/index", page(200), "About 1 minute to read"),
        ("book/appendix/api", page(600), None),
        ("search", None, None),  # a page without a text of its own
    ],
)
def test_line_stands_under_the_title_of_pages_that_are_read_through(name, tree, line) -> None:
    context = {"body": "<h1>Title</h1><p>Text</p>"}
    reading_time.add(SimpleNamespace(), name, "page.html", context, tree)
    expected = f'<h1>Title</h1>\n<p class="reading-time">{line}</p><p>Text</p>'
    assert context["body"] == (expected if line else "<h1>Title</h1><p>Text</p>")
