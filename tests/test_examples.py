"""The examples of the API pages, run one by one as a reader would type them."""

import ast
import re
import sys
from collections.abc import Iterator
from doctest import ELLIPSIS, NORMALIZE_WHITESPACE, DocTestParser, DocTestRunner
from importlib import import_module
from pathlib import Path
from unittest.mock import patch

import matplotlib.pyplot as plt
import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted((ROOT / "book/appendix").glob("api_*.md"))
MODULES = re.findall(r"automodule:: (\S+)", "".join(page.read_text() for page in PAGES))


def described(body: list[ast.stmt], prefix: str) -> Iterator[tuple[str, str]]:
    """Name and description of all that the page shows of a module's or a class's body.

    Read from the source, because doctest's own finder takes a decorated function for a foreign one.
    """
    for node in body:
        if not isinstance(node, ast.FunctionDef | ast.ClassDef) or node.name.startswith("_"):
            continue
        if text := ast.get_docstring(node):
            yield f"{prefix}{node.name}", text
        if isinstance(node, ast.ClassDef):
            yield from described(node.body, f"{prefix}{node.name}.")


EXAMPLES = {
    f"{module}.{name}": (module, text)
    for module in MODULES
    for name, text in described(
        ast.parse((ROOT / f"{module.replace('.', '/')}.py").read_text()).body, ""
    )
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_example(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "ipykernel", raising=False)  # else training logs nothing
    module, text = EXAMPLES[name]
    names = vars(import_module(module)) | {"folder": tmp_path}
    example = DocTestParser().get_doctest(text, names, name, None, None)
    report: list[str] = []
    with patch.dict("os.environ"):
        DocTestRunner(optionflags=ELLIPSIS | NORMALIZE_WHITESPACE).run(example, out=report.append)
    plt.close("all")
    assert not report, "".join(report)
