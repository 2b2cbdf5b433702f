"""Build the book: run its notebooks, render them, check them. The Makefile calls this file."""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import groupby
from pathlib import Path

import nbformat
from nbclient.exceptions import CellExecutionError, DeadKernelError

import notebooks
from notebooks import ROOT

BUILD = ROOT / "build"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = next(filter(None, map(shutil.which, BROWSERS)), "")
ALONE = re.compile(r'^# %%.*\btags=.*"alone"', re.MULTILINE)
"""The tag of a cell that makes data or trains, with all cores. Pages without it spend most of their
time on imports, with one: they run two at a time, and find what these have left."""
BUNDLE = ("pyproject.toml", "README.md", "LICENSE", "hw3/**/*.*", "book/beyond.py")
BUNDLE += ("book/**/*.ipynb", "book/**/*.json", "book/_static/road.jpg", "book/_static/slice.png")


def book() -> None:
    """Run the notebooks that changed, in a copy, and render the copy."""
    started = time.monotonic()
    copy = stage("book")
    for path, made in run_all(copy):
        shutil.copy(made, copy / path.relative_to(ROOT).with_suffix(".ipynb"))
    render(copy, BUILD / "book/html")
    print(f"{time.monotonic() - started:.1f} seconds")


def html() -> None:
    """Render the outputs as they are committed."""
    render(stage("committed"), BUILD / "html")


def pdf() -> None:
    """Print the book as it is committed, with the chromium on the PATH."""
    if not CHROMIUM:
        sys.exit("make pdf needs chromium on the PATH: apt-get install chromium")
    made = build(stage("committed"), BUILD / "committed/sphinx", "singlehtml")
    page, target = made / "whole.html", BUILD / "book.pdf"
    # The page lies in a folder of its own, but its pictures' addresses are those of the root.
    text = (made / "book/index.html").read_text()
    page.write_text(text.replace("<details><summary>", "<details open><summary>"))
    target.unlink(missing_ok=True)
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--no-pdf-header-footer"]
    command = [CHROMIUM, *flags, f"--print-to-pdf={target}", page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    if done.returncode or not target.exists():
        sys.exit(done.stderr)
    print(target)


def execute() -> None:
    """Run the notebooks that changed and write the outputs into the tree."""
    for path, made in run_all(stage("book")):
        if faults := notebooks.output_faults(nbformat.read(made, as_version=4)):
            sys.exit("\n".join([f"{path.relative_to(ROOT)}: not written", *faults]))
        shutil.copy(made, path.with_suffix(".ipynb"))
    for file, picture in notebooks.front_pictures().items():
        file.write_bytes(picture)


def check() -> None:
    """Refuse pairs that differ, other opening cells, a page without its .py, old pictures."""
    paths = notebooks.in_order()
    faults = [fault for path in paths for fault in notebooks.pair_faults(path)]
    alone = {path.with_suffix(".py") for path in (ROOT / "book").rglob("*.ipynb")} - {*paths}
    faults += [f"{path.relative_to(ROOT)}: missing beside its .ipynb" for path in sorted(alone)]
    for file, picture in notebooks.front_pictures().items():
        if not file.exists() or file.read_bytes() != picture:
            faults.append(f"{file.relative_to(ROOT)}: not its page's figure; run make execute")
    if faults:
        sys.exit("\n".join(faults))
    print(f"{len(paths)} notebooks: pairs and opening cells are in order")


def opening() -> None:
    """Write the common opening cells into every .py."""
    for path in notebooks.in_order():
        notebooks.write_opening(path)


def colab() -> None:
    """Zip what a notebook needs on Colab."""
    BUILD.mkdir(exist_ok=True)
    with zipfile.ZipFile(BUILD / "hw3-colab.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for path in (path for pattern in BUNDLE for path in sorted(ROOT.glob(pattern))):
            if "__pycache__" not in path.parts:
                archive.write(path, path.relative_to(ROOT))
    print(archive.filename)


def stage(name: str) -> Path:
    """A fresh copy of everything that Sphinx reads, outside the tree."""
    copy = BUILD / name / "source"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(ROOT / "book", copy / "book")
    for settings in ("_config.yml", "_toc.yml"):
        shutil.copy(ROOT / settings, copy)
    return copy


def environment() -> dict[str, str]:
    """What the kernels are told, where a person has not said otherwise.

    What hw3 has simulated and trained lies under its digest, so that no page shows what an older
    hw3 made; with real data, where a run takes hours, it stays.
    """
    real = os.environ.get("HW3_PROFILE") == "full"
    made = BUILD / ("real/any" if real else f"simulated/{digest([ROOT / 'hw3'])[:12]}")
    return {
        "HW3_PROFILE": "sample",
        "HW3_DATA": str(made / "data"),
        "HW3_RUNS": str(made / "runs"),
        "NO_ALBUMENTATIONS_UPDATE": "1",
        "PYTHONWARNINGS": "ignore:IProgress not found",  # tqdm, about a widget that is not wanted
    }


def run_all(copy: Path) -> Iterator[tuple[Path, Path]]:
    """Each notebook's .py and its executed .ipynb; it is run only if something it uses changed."""
    own = environment()
    told = own | os.environ
    made = Path(own["HW3_RUNS"]).parent
    for older in {*made.parent.glob("*")} - {made}:
        shutil.rmtree(older)
    used = [ROOT / "hw3", ROOT / "requirements.lock", Path(notebooks.__file__)]
    used += [ROOT / "book" / notebooks.BEYOND, *sorted((ROOT / "book").rglob("*.json"))]
    one = partial(run, copy, told, digest(used, [sys.version, *map(told.get, own)]))
    with ThreadPoolExecutor(2) as pool:
        for group in groups(notebooks.in_order()):
            yield from zip(group, pool.map(one, group), strict=True)


def groups(paths: Iterable[Path]) -> Iterator[list[Path]]:
    """Notebooks that may run at once, in order: each of ALONE, and those between two of them."""
    for alone, stretch in groupby(paths, lambda path: bool(ALONE.search(path.read_text()))):
        group = list(stretch)
        yield from [[path] for path in group] if alone else [group]


def run(copy: Path, told: dict[str, str], used: str, path: Path) -> Path:
    """The executed .ipynb of one .py: made in the copy, or found if nothing it uses changed."""
    name = path.relative_to(ROOT)
    made = BUILD / "executed" / name.with_suffix(".ipynb")
    stamp, key = made.with_suffix(".key"), digest([path], [used])
    if not (stamp.exists() and stamp.read_text() == key):
        started = time.monotonic()
        try:
            done = notebooks.execute(path, (copy / name).parent, told)
        except (CellExecutionError, DeadKernelError) as error:
            sys.exit(f"{name} failed:\n" + re.sub(r"\x1b\[[\d;]*m", "", str(error)))
        print(f"{name} {time.monotonic() - started:.1f} s", flush=True)
        made.parent.mkdir(parents=True, exist_ok=True)
        nbformat.write(done, made)
        stamp.write_text(key)
    return made


def render(source: Path, target: Path) -> None:
    """Build the HTML in `target` unless it is there."""
    used = [source, ROOT / "hw3", ROOT / "requirements.lock"]  # one page is set from descriptions
    stamp, key = target / ".key", digest(used)
    if not (stamp.exists() and stamp.read_text() == key):
        made = build(source, source.parent / "sphinx", "html")
        shutil.rmtree(target, ignore_errors=True)
        shutil.move(made, target)
        stamp.write_text(key)
    print(target / "index.html")


def build(source: Path, output: Path, builder: str) -> Path:
    """The folder that Sphinx fills; a warning is a fault.

    What Sphinx has read for the HTML serves the single page, too.
    """
    if builder == "html":
        shutil.rmtree(output, ignore_errors=True)
    program = Path(sys.executable).with_name("jupyter-book")
    command = [program, "build", source, "--path-output", output, "--builder", builder]
    command += ["-W", "-n", "--keep-going", "-q"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr or done.stdout)
    return output / "_build" / builder


def digest(paths: Iterable[Path], settings: Iterable[str] = ()) -> str:
    """SHA-256 over the files in `paths` (folders with all they hold) and the settings."""
    total = hashlib.sha256(repr(list(settings)).encode())
    for path in paths:
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file() and "__pycache__" not in file.parts:
                total.update(file.relative_to(path.parent).as_posix().encode())
                total.update(file.read_bytes())
    return total.hexdigest()


if __name__ == "__main__":
    commands = (book, html, pdf, execute, check, opening, colab)
    {command.__name__: command for command in commands}[sys.argv[1]]()
