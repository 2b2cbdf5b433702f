"""The examples of the descriptions, run one by one as a reader would type them."""

import ast
import os
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


def described(body: list[ast.stmt], prefix: str) -> Iterator[tuple[str, str]]:
    """Name and description of every function and class that has an example.

    Read from the source, because doctest's own finder takes a decorated function for a foreign one.
    """
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            if ">>> " in (text := ast.get_docstring(node) or ""):
                yield f"{prefix}.{node.name}", text
            if isinstance(node, ast.ClassDef):
                yield from described(node.body, f"{prefix}.{node.name}")


def examples() -> Iterator[tuple[str, str, str]]:
    """Module, name and description."""
    for path in sorted((ROOT / "hw3").rglob("*.py")):
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for name, text in described(ast.parse(path.read_text()).body, module):
            yield module, name, text


EXAMPLES = list(examples())


@pytest.mark.parametrize(("module", "name", "text"), EXAMPLES, ids=[own[1] for own in EXAMPLES])
def test_example(module, name, text, tmp_path, monkeypatch) -> None:
    monkeypatch.delitem(sys.modules, "ipykernel", raising=False)  # else training logs nothing
    names = vars(import_module(module)) | {"os": os, "folder": tmp_path}
    example = DocTestParser().get_doctest(text, names, name, None, None)
    report: list[str] = []
    with patch.dict("os.environ"):
        DocTestRunner(optionflags=ELLIPSIS | NORMALIZE_WHITESPACE).run(example, out=report.append)
    plt.close("all")
    assert not report, "".join(report)


def test_what_has_an_example_is_on_the_api_page() -> None:
    page = (ROOT / "book/appendix/api.md").read_text()
    shown = re.findall(r"auto(?:function|class):: (\S+)", page)
    missing = [name for _, name, _ in EXAMPLES if not any(name.startswith(own) for own in shown)]
    assert shown and not missing
