"""Build the book: run its notebooks, render them, check them. The Makefile calls this file."""

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterable
from html.parser import HTMLParser
from pathlib import Path

import nbformat
import notebooks
from nbclient.exceptions import CellExecutionError
from notebooks import ROOT

BUILD = ROOT / "build"
ENVIRONMENT = {
    "HW3_PROFILE": "sample",
    "HW3_DATA": str(BUILD / "data"),
    "HW3_RUNS": str(BUILD / "runs"),
    "NO_ALBUMENTATIONS_UPDATE": "1",
}


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


def execute() -> None:
    """Run the notebooks that changed and write the outputs into the tree."""
    for path, made in run_all(stage("book")):
        if faults := notebooks.output_faults(nbformat.read(made, as_version=4)):
            sys.exit("\n".join([f"{path.relative_to(ROOT)}: not written", *faults]))
        shutil.copy(made, path.with_suffix(".ipynb"))


def check() -> None:
    """Refuse pairs that differ, other opening cells, and an .ipynb without its .py."""
    paths = notebooks.in_order()
    faults = [fault for path in paths for fault in notebooks.pair_faults(path)]
    lonely = {p.with_suffix(".py") for p in (ROOT / "book").rglob("*.ipynb")} - set(paths)
    faults += [f"{path.relative_to(ROOT)}: no such file, but an .ipynb" for path in sorted(lonely)]
    if faults:
        sys.exit("\n".join(faults))
    print(f"{len(paths)} notebooks: pairs and opening cells are in order")


def opening() -> None:
    """Write the common opening cells into every .py."""
    for path in notebooks.in_order():
        notebooks.write_opening(path)


def colab() -> None:
    """Zip what a notebook needs on Colab."""
    target = BUILD / "hw3-colab.zip"
    patterns = ["hw3/**/*.*", "book/**/*.ipynb", "book/**/*.json"]
    names = [ROOT / name for name in ("pyproject.toml", "README.md", "LICENSE")]
    names += [path for pattern in patterns for path in sorted(ROOT.glob(pattern))]
    BUILD.mkdir(exist_ok=True)
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in names:
            if "__pycache__" not in path.parts:
                archive.write(path, path.relative_to(ROOT))
    print(target)


def stage(name: str) -> Path:
    """A fresh copy of everything that Sphinx reads, outside the tree."""
    copy = BUILD / name / "source"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(ROOT / "book", copy / "book")
    for settings in ("_config.yml", "_toc.yml"):
        shutil.copy(ROOT / settings, copy)
    return copy


def run_all(copy: Path) -> Iterable[tuple[Path, Path]]:
    """Each notebook's .py and its executed .ipynb; it is run only if something it uses changed."""
    environment = os.environ | {key: os.environ.get(key, ENVIRONMENT[key]) for key in ENVIRONMENT}
    used = [ROOT / "hw3", ROOT / "book/runs", ROOT / "requirements.lock", notebooks.__file__]
    settings = [sys.version, *(environment[key] for key in ENVIRONMENT)]
    for path in notebooks.in_order():
        name = path.relative_to(ROOT)
        made = BUILD / "executed" / name.with_suffix(".ipynb")
        stamp = made.with_suffix(".json")
        key = digest([path, *used], settings)
        if not (stamp.exists() and json.loads(stamp.read_text())["key"] == key):
            print(f"{name} ...", end=" ", flush=True)
            started = time.monotonic()
            try:
                done = notebooks.execute(path, (copy / name).parent, environment)
            except CellExecutionError as error:
                sys.exit(f"failed\n{name}:\n" + re.sub(r"\x1b\[[\d;]*m", "", str(error)))
            seconds = round(time.monotonic() - started, 1)
            print(f"{seconds} s", flush=True)
            made.parent.mkdir(parents=True, exist_ok=True)
            nbformat.write(done, made)
            stamp.write_text(json.dumps({"key": key, "seconds": seconds}))
        yield path, made


def render(source: Path, target: Path) -> None:
    """Build the HTML in `target`; a warning, or a page that calls out, is a fault."""
    stamp, key = target / ".key", digest([source, ROOT / "requirements.lock"], [])
    if not (stamp.exists() and stamp.read_text() == key):
        output = source.parent / "sphinx"
        for old in (target, output):
            shutil.rmtree(old, ignore_errors=True)
        program = Path(sys.executable).with_name("jupyter-book")
        command = [program, "build", source, "--path-output", output, "-W", "-n", "--keep-going"]
        done = subprocess.run([*command, "-q"], capture_output=True, text=True)
        if done.returncode:
            sys.exit(done.stderr or done.stdout)
        shutil.move(output / "_build/html", target)
        if faults := outside_requests(target):
            sys.exit("\n".join(faults))
        stamp.write_text(key)
    print(target / "index.html")


def outside_requests(folder: Path) -> list[str]:
    """Everything that the pages or style sheets in `folder` would load from another host."""
    faults = []
    for page in sorted(folder.rglob("*.html")):
        loads = _Loads()
        loads.feed(page.read_text())
        faults += [f"{page.relative_to(folder)} loads {link}" for link in loads.links]
    for sheet in sorted(folder.rglob("*.css")):
        links = re.findall(
            r"(?:url\(|@import)[\s\"']*((?:https?:)?//[^\s\"')]+)", sheet.read_text()
        )
        faults += [f"{sheet.relative_to(folder)} loads {link}" for link in links]
    return faults


class _Loads(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        names = ("href",) if tag == "link" else ("src", "srcset", "data", "poster")
        values = [value or "" for name, value in attributes if name in names]
        self.links += [value for value in values if re.match(r"(https?:)?//", value)]


def digest(paths: Iterable[Path | str], settings: Iterable[str]) -> str:
    """SHA-256 over the files in `paths` (folders with all they hold) and the settings."""
    total = hashlib.sha256(repr(list(settings)).encode())
    for path in map(Path, paths):
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file() and "__pycache__" not in file.parts:
                total.update(file.relative_to(path.parent).as_posix().encode())
                total.update(file.read_bytes())
    return total.hexdigest()


COMMANDS: dict[str, Callable[[], None]] = {
    function.__name__: function for function in (book, html, execute, check, opening, colab)
}


def main() -> None:
    """Run the command that is named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("command", choices=COMMANDS)
    COMMANDS[parser.parse_args().command]()


if __name__ == "__main__":
    main()
