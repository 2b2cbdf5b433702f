"""A notebook is a pair: people edit the .py (percent format), running it makes the .ipynb."""

import re
from base64 import b64decode, b64encode
from io import BytesIO
from itertools import zip_longest
from pathlib import Path

import jupytext
import nbformat
import yaml
from jupyter_client import AsyncKernelManager
from jupyter_client.kernelspec import KernelSpecManager
from nbclient import NotebookClient
from nbformat import NotebookNode
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
COLAB, BADGE = "https://colab.research.google.com", "![Open in Colab]"
BEYOND = "beyond.py"
"""A module in book/ that pages import: no page."""
HEAVY = 300_000  # bytes of a picture
FRONT = {"fig-1-5": "q1/1_7_evaluation", "fig-2-11": "q2/2_2_two_stage"}
"""Figures that the front page shows too, and the pages that draw them."""
SIMULATED_OR_REAL = ("This page's data, simulated.", "This page's data, real.")
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
SETUP = """\
# Set-up: gets the package on Google Colab; elsewhere it only goes to this notebook's folder.
import sys
from io import BytesIO
from pathlib import Path
from zipfile import ZipFile, is_zipfile

while "google.colab" in sys.modules and not Path("/content/hw3/colab.py").exists():
    from google.colab import files

    print("Choose hw3-colab.zip as `make colab` writes it; no other file will do.")
    for bundle in filter(is_zipfile, map(BytesIO, files.upload().values())):
        ZipFile(bundle).extractall("/content")
from hw3 import colab

colab.set_up("FOLDER")"""
SETUP_BY_CLONE = """\
# Set-up: gets the package on Google Colab; elsewhere it only goes to this notebook's folder.
import subprocess
import sys
from pathlib import Path

if "google.colab" in sys.modules:
    if not Path("/content/report").exists():
        clone = "git clone --quiet --depth=1 REPOSITORY /content/report"
        subprocess.run(clone.split(), check=True)
    sys.path.insert(0, "/content/report")
from hw3 import colab

colab.set_up("FOLDER")"""


def in_order() -> list[Path]:
    """Every notebook's .py, in the order of _toc.yml; then those that it does not name."""
    named = re.findall(r"(?:root|file): *([\w/]+)", (ROOT / "_toc.yml").read_text())
    found = sorted((ROOT / "book").glob("*.py")) + sorted((ROOT / "book").glob("[!_.]*/*.py"))
    found = [path for path in found if path.name != BEYOND]
    first = [path for path in (ROOT / f"{name}.py" for name in named) if path in found]
    return first + [path for path in found if path not in first]


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
    setup = SETUP_BY_CLONE.replace("REPOSITORY", repository) if repository else SETUP

    title, _, rest = notebook.cells[0].source.partition("\n")
    rest = "\n".join(line for line in rest.split("\n") if BADGE not in line).strip()
    notebook.cells[0].source = "\n\n".join(filter(None, [title, badge, rest]))
    if len(notebook.cells) < 2 or not notebook.cells[1].source.startswith("# Set-up"):
        notebook.cells.insert(1, nbformat.v4.new_code_cell())
    setup = setup.replace("FOLDER", name.parent.as_posix())
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
    made = path.with_suffix(".ipynb")
    if not made.exists():
        return [*faults, f"{name}: no .ipynb beside it; run make execute"]
    pairs = zip_longest(source, _content(nbformat.read(made, as_version=4)))
    differ = [number for number, (own, other) in enumerate(pairs, 1) if own != other]
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
    client = NotebookClient(
        notebook,
        km=AsyncKernelManager(kernel_spec_manager=KernelSpecManager(kernel_dirs=[])),
        extra_arguments=["--log-level=ERROR"],
        timeout=None,
        record_timing=False,
        resources={"metadata": {"path": str(folder)}},
    )
    client.execute(env=environment, cleanup_kc=True)
    notebook.metadata = nbformat.from_dict(METADATA)
    for cell in notebook.cells:
        lighten(cell)
        if environment["HW3_PROFILE"] == "full":
            call_real(cell)
    return notebook


def call_real(cell: NotebookNode) -> None:
    """Captions call a page's data simulated, as they are in every profile but one."""
    figure = cell.metadata.get("mystnb", {}).get("figure", {})
    if "caption" in figure:
        figure["caption"] = figure["caption"].replace(*SIMULATED_OR_REAL)


def lighten(cell: NotebookNode) -> None:
    """Make heavy PNG outputs JPEGs: they are photographs, whose every grain a PNG would keep."""
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
        outputs = [output.data for cell in own for output in cell.outputs if "data" in output]
        for kind, content in (item for data in outputs for item in data.items()):
            if kind.startswith("image/"):
                target = ROOT / f"book/_static/{figure}.{kind.removeprefix('image/')}"
                found[target] = b64decode(content)
    return found


def _kept(cell: NotebookNode) -> NotebookNode:
    kept = {key: cell.metadata[key] for key in ("tags", "mystnb") if key in cell.metadata}
    return nbformat.from_dict(kept)


def _content(notebook: NotebookNode) -> list[tuple[str, str, NotebookNode]]:
    return [(cell.cell_type, cell.source, _kept(cell)) for cell in notebook.cells]
