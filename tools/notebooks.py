"""A notebook is a pair: people edit the .py (percent format), running it makes the .ipynb."""

from base64 import b64decode, b64encode
from collections.abc import Iterator
from io import BytesIO
from itertools import zip_longest
from pathlib import Path
from typing import Any

import jupytext
import nbformat
import yaml
from jupyter_client import AsyncKernelManager
from jupyter_client.kernelspec import KernelSpecManager
from nbclient import NotebookClient
from nbformat import NotebookNode
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
SETUP = ROOT / "tools/colab_setup.py"
COLAB, BADGE = "https://colab.research.google.com", "![Open in Colab]"
HEAVY = 300_000  # bytes of a picture
FRONT = {"fig-1-5": "q1/1_7_evaluation", "fig-2-11": "q2/2_2_two_stage"}
"""Figures that the front page shows too, and the pages that draw them."""
SIMULATED_OR_REAL = ("This page's data, simulated.", "This page's data, real.")
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def in_order() -> list[Path]:
    """Every notebook's .py, in the order of _toc.yml; then those that it does not name."""

    def files(entry: Any) -> Iterator[str]:
        if isinstance(entry, list):
            for item in entry:
                yield from files(item)
        elif isinstance(entry, dict):
            for key, value in entry.items():
                yield from [value] if key in ("root", "file") else files(value)

    named = [ROOT / f"{name}.py" for name in files(yaml.safe_load((ROOT / "_toc.yml").read_text()))]
    found = sorted(p for p in (ROOT / "book").rglob("*.py") if "_extensions" not in p.parts)
    return [path for path in named if path in found] + [p for p in found if p not in named]


def read(path: Path) -> NotebookNode:
    """The notebook that a .py describes: no outputs, stable ids, only the metadata that counts."""
    notebook = jupytext.read(path, fmt="py:percent")
    notebook.metadata = nbformat.from_dict(METADATA)
    for number, cell in enumerate(notebook.cells, 1):
        cell.id = f"cell-{number}"
        cell.metadata = _kept(cell)
    return notebook


def with_opening(path: Path) -> NotebookNode:
    """The notebook with the cells that open each one: the badge under its title, and the set-up."""
    notebook = read(path)
    name = path.relative_to(ROOT).with_suffix(".ipynb")
    repository = yaml.safe_load((ROOT / "_config.yml").read_text())["repository"]["url"]
    slug = repository.removeprefix("https://github.com/")
    target = f"{COLAB}/github/{slug}/blob/main/{name.as_posix()}" if repository else f"{COLAB}/"
    badge = f"[{BADGE}({'../' * (len(name.parts) - 2)}_static/colab.svg)]({target})"
    setup = SETUP.read_text().strip()
    setup = setup.replace('"", ""', f'"{repository}", "{name.parent.as_posix()}"', 1)

    title, _, rest = notebook.cells[0].source.partition("\n")
    rest = "\n".join(line for line in rest.split("\n") if BADGE not in line).strip()
    notebook.cells[0].source = "\n\n".join(filter(None, [title, badge, rest]))
    if len(notebook.cells) < 2 or not notebook.cells[1].source.startswith(setup.split("\n")[0]):
        notebook.cells.insert(1, nbformat.v4.new_code_cell())
    notebook.cells[1].update(source=setup, metadata={"tags": ["hide-input"]})
    return notebook


def write_opening(path: Path) -> None:
    """Put the common opening cells into a .py."""
    notebook = with_opening(path)
    notebook.metadata = {"jupytext": {"notebook_metadata_filter": "-all"}}
    path.write_text(jupytext.writes(notebook, fmt="py:percent"))


def pair_faults(path: Path) -> list[str]:
    """What is wrong with a pair and its opening cells, a line each; nothing if it is in order."""
    name, source, faults = path.relative_to(ROOT), _content(read(path)), []
    if source != _content(with_opening(path)):
        faults.append(f"{name}: not the common opening cells; run make opening")
    if not path.with_suffix(".ipynb").exists():
        return [*faults, f"{name}: no .ipynb beside it; run make execute"]
    made = _content(nbformat.read(path.with_suffix(".ipynb"), as_version=4))
    differ = [n for n, (here, there) in enumerate(zip_longest(source, made), 1) if here != there]
    if differ:
        faults.append(f"{name}: cell {differ[0]} differs in the .ipynb; run make execute")
    return faults


def output_faults(notebook: NotebookNode) -> list[str]:
    """Errors and standard error among the outputs, a line each: neither belongs in the book."""
    outputs = [(cell.id, out) for cell in notebook.cells for out in cell.get("outputs", [])]
    errors = [f"{id}: {out.ename}" for id, out in outputs if out.output_type == "error"]
    return errors + [f"{id}: {out.text}" for id, out in outputs if out.get("name") == "stderr"]


def execute(path: Path, folder: Path, environment: dict[str, str]) -> NotebookNode:
    """Run a .py as a notebook in `folder`, with this Python whatever kernels are installed.

    Raises:
        nbclient.exceptions.CellExecutionError: at the first cell that fails.
    """
    notebook = read(path)
    kernel = AsyncKernelManager(kernel_spec_manager=KernelSpecManager(kernel_dirs=[]))
    client = NotebookClient(
        notebook,
        km=kernel,
        extra_arguments=["--log-level=ERROR"],
        timeout=None,
        record_timing=False,
        resources={"metadata": {"path": str(folder)}},
    )
    client.execute(env=environment, cleanup_kc=True)
    notebook.metadata = nbformat.from_dict(METADATA)
    lighten(notebook)
    if environment["HW3_PROFILE"] == "full":
        call_real(notebook)
    return notebook


def call_real(notebook: NotebookNode) -> None:
    """Captions call a page's data simulated, as they are in every profile but one."""
    for cell in notebook.cells:
        figure = cell.metadata.get("mystnb", {}).get("figure", {})
        if "caption" in figure:
            figure["caption"] = figure["caption"].replace(*SIMULATED_OR_REAL)


def lighten(notebook: NotebookNode) -> None:
    """Make heavy PNG outputs JPEGs: they are photographs, whose every grain a PNG would keep."""
    for cell in notebook.cells:
        for data in (output.data for output in cell.get("outputs", []) if "data" in output):
            picture = b64decode(data.get("image/png", ""))
            if len(picture) > HEAVY:
                file = BytesIO()
                Image.open(BytesIO(picture)).convert("RGB").save(file, "JPEG", quality=82)
                data["image/jpeg"] = b64encode(file.getvalue()).decode()
                del data["image/png"]


def front_pictures() -> dict[Path, bytes]:
    """The files in book/_static that the front page shows: outputs of other pages, as they are."""
    found = {}
    for figure, page in FRONT.items():
        notebook = nbformat.read(ROOT / f"book/{page}.ipynb", as_version=4)
        own = [cell for cell in notebook.cells if f"'{figure}'" in str(cell.metadata)]
        for output in (output for cell in own for output in cell.outputs if "data" in output):
            for ending in {"png", "jpeg"} & {name.removeprefix("image/") for name in output.data}:
                picture = b64decode(output.data[f"image/{ending}"])
                found[ROOT / f"book/_static/{figure}.{ending}"] = picture
    return found


def _kept(cell: NotebookNode) -> NotebookNode:
    kept = {key: cell.metadata[key] for key in ("tags", "mystnb") if key in cell.metadata}
    return nbformat.from_dict(kept)


def _content(notebook: NotebookNode) -> list[tuple[str, str, NotebookNode]]:
    return [(cell.cell_type, cell.source, _kept(cell)) for cell in notebook.cells]
