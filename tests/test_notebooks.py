"""The pairs of the book: their cells, their opening, their outputs and pictures."""

import re
import sys
from base64 import b64decode, b64encode
from io import BytesIO
from pathlib import Path

import nbformat
import numpy as np
import pytest
from PIL import Image

import notebooks

PATHS = notebooks.in_order()
by_notebook = pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)


@pytest.fixture
def pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A notebook in a book of its own, with its opening cells and an .ipynb that agrees."""
    (tmp_path / "book/q1").mkdir(parents=True)
    (tmp_path / "_toc.yml").write_text("root: book/q1/1_1_a")
    (tmp_path / "_config.yml").write_text("repository: {url: 'https://github.com/someone/hw3'}")
    monkeypatch.setattr(notebooks, "ROOT", tmp_path)
    path = tmp_path / "book/q1/1_1_a.py"
    path.write_text(
        "# %% [markdown]\n# # A title\n#\n# Prose.\n\n# %%\n# Set-up\n\n"
        '# %% tags=["remove-input"]\nprint(1)\n'
    )
    notebooks.write_opening(path)
    nbformat.write(notebooks.read(path), path.with_suffix(".ipynb"))
    return path


def test_there_are_notebooks_and_the_contents_name_each() -> None:
    toc = (notebooks.ROOT / "_toc.yml").read_text()
    assert PATHS
    for path in PATHS:
        assert path.relative_to(notebooks.ROOT).with_suffix("").as_posix() in toc


@by_notebook
def test_pair_is_in_order_and_its_outputs_are_clean(path: Path) -> None:
    assert notebooks.pair_faults(path) == []
    notebook = nbformat.read(path.with_suffix(".ipynb"), as_version=4)
    assert notebooks.output_faults(notebook) == []
    assert notebook.metadata == notebooks.METADATA
    assert [cell.id for cell in notebook.cells] == [cell.id for cell in notebooks.read(path).cells]
    assert all(set(cell.metadata) <= {"tags", "mystnb"} for cell in notebook.cells)
    ran = [cell.execution_count for cell in notebook.cells if cell.cell_type == "code"]
    assert ran == list(range(1, len(ran) + 1))


@by_notebook
def test_every_figure_has_a_name_a_caption_and_an_alternative_text(path: Path) -> None:
    for cell in nbformat.read(path.with_suffix(".ipynb"), as_version=4).cells:
        data = [output.get("data", {}) for output in cell.get("outputs", [])]
        pictures = [own[kind] for own in data for kind in own if kind.startswith("image/")]
        if pictures:
            assert len(b64decode(pictures[0])) <= notebooks.HEAVY
            assert len(pictures) == 1, "a figure a cell, so that a number means one figure"
            figure, image = cell.metadata.mystnb.figure, cell.metadata.mystnb.image
            assert re.fullmatch(r"fig-(\d+-\d+|own-\w+)", figure.name)
            assert len(figure.caption) > 20 and len(image.alt) > 20


def test_writing_the_opening_twice_changes_nothing(pair: Path) -> None:
    once = pair.read_text()
    notebooks.write_opening(pair)
    assert pair.read_text() == once
    assert once.count("Open in Colab") == once.count("# Set-up") == 1 and "# Prose." in once
    assert "github/someone/hw3/blob/main/book/q1/1_1_a.ipynb" in once
    assert "--depth=1 https://github.com/someone/hw3 /content/report" in once
    assert 'colab.set_up("book/q1")' in once


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("print(1)", "print(2)", "cell 3 differs"),
        ("remove-input", "hide-input", "cell 3 differs"),
        ("print(1)\n", "print(1)\n\n# %%\nprint(3)\n", "cell 4 differs"),
        ("someone", "someone-else", "opening cells"),
    ],
)
def test_a_pair_that_parted_is_named(pair: Path, old: str, new: str, fault: str) -> None:
    assert notebooks.pair_faults(pair) == []
    pair.write_text(pair.read_text().replace(old, new))
    faults = notebooks.pair_faults(pair)
    assert any("book/q1/1_1_a.py" in line and fault in line for line in faults)


def test_a_missing_ipynb_is_named(pair: Path) -> None:
    pair.with_suffix(".ipynb").unlink()
    assert "no .ipynb beside it" in notebooks.pair_faults(pair)[0]


def test_a_module_that_pages_share_is_no_page(pair: Path) -> None:
    (notebooks.ROOT / "book/beyond.py").write_text("A = 1\n")
    (notebooks.ROOT / "book/last.py").write_text("# %%\n1\n")
    assert [path.name for path in notebooks.in_order()] == ["1_1_a.py", "last.py"]


def test_errors_and_standard_error_are_faults() -> None:
    cell = nbformat.v4.new_code_cell(id="cell-1")
    cell.outputs = [
        nbformat.v4.new_output("stream", name="stdout", text="fine"),
        nbformat.v4.new_output("stream", name="stderr", text="a warning"),
        nbformat.v4.new_output("error", ename="ValueError", evalue="", traceback=[]),
    ]
    faults = notebooks.output_faults(nbformat.v4.new_notebook(cells=[cell]))
    assert faults == ["cell-1: ValueError", "cell-1: a warning"]


def test_a_page_runs_with_this_python_and_captions_call_real_data_real(tmp_path: Path) -> None:
    page = tmp_path / "page.py"
    caption = "Six images. This page's data, simulated."
    metadata = f'mystnb={{"figure": {{"caption": "{caption}"}}}}'
    page.write_text(f"# %% [markdown]\n# {caption}\n\n# %% {metadata}\nimport sys\nsys.prefix\n")
    done = notebooks.execute(page, tmp_path, {"HW3_PROFILE": "full"})
    assert done.cells[1].outputs[0].data["text/plain"] == repr(sys.prefix)
    assert done.cells[1].metadata.mystnb.figure.caption == "Six images. This page's data, real."
    assert done.cells[0].source == caption


def test_only_heavy_pictures_are_made_lighter() -> None:
    grain = np.random.default_rng(0).integers(0, 60, (400, 500, 4), dtype=np.uint8)
    grain[..., 3] = 255
    kinds = []
    for pixels in (grain, np.zeros_like(grain)):
        Image.fromarray(pixels).save(file := BytesIO(), "PNG")
        cell, picture = nbformat.v4.new_code_cell(), b64encode(file.getvalue()).decode()
        cell.outputs = [nbformat.v4.new_output("display_data", data={"image/png": picture})]
        notebooks.lighten(cell)
        [(kind, picture)] = cell.outputs[0].data.items()
        kinds.append(kind)
        assert len(b64decode(picture)) < notebooks.HEAVY < grain.nbytes
        shown = np.asarray(Image.open(BytesIO(b64decode(picture))), dtype=float)
        assert shown.shape[:2] == (400, 500)
        assert abs(shown[..., :3].mean() - pixels[..., :3].mean()) < 1
    assert kinds == ["image/jpeg", "image/png"]
