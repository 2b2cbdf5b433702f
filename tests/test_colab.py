import json
import os
import subprocess
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import book
import notebooks

HEAVY = {"torch", "torchvision", "numpy", "scipy", "opencv-python-headless", "pillow"}
"""What Colab has and nobody should reinstall."""
STAND_IN = """
import os
class files:
    @staticmethod
    def upload():
        print("asked for the bundle")
        return {"hw3-colab.zip": open(os.environ["BUNDLE"], "rb").read()}
class drive:
    @staticmethod
    def mount(folder):
        print("mounted", folder)
"""
WATCH = """
import json, os, subprocess, sys
calls = []
def run(command, check):
    calls.append([str(part) for part in command])
    if "clone" in command:
        os.makedirs(os.path.join(command[-1], "book/q1"))
subprocess.run = run
"""
REPORT = """
names = {name: os.environ.get(name) for name in ("HW3_PROFILE", "HW3_DATA", "HW3_RUNS")}
modules = [name for name in ("torch", "numpy", "scipy") if name in sys.modules]
print(json.dumps({"calls": calls, "folder": os.getcwd(), "imported": modules, **names}))
"""


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bare virtual environment: no torch, no numpy, not even pip."""
    folder = tmp_path_factory.mktemp("bare")
    venv.create(folder, with_pip=False)
    return folder / "bin/python"


def run_setup(
    python: Path, tmp_path: Path, colab: bool, repository: str = "", **names: str
) -> tuple:
    """Run a notebook's set-up cell with a recording stand-in for subprocess.run.

    Returns:
        The lines that it printed, and what it left behind.
    """
    cell = notebooks.SETUP.read_text().replace('"/content"', repr(str(tmp_path / "content")))
    cell = cell.replace('"", "",', f'"{repository}", "book/q1",')
    if colab:
        (tmp_path / "google/colab").mkdir(parents=True)
        (tmp_path / "google/colab/__init__.py").write_text(STAND_IN)
    with zipfile.ZipFile(tmp_path / "bundle.zip", "w") as archive:
        archive.writestr("book/q1/1_1_model.ipynb", "{}")
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HW3_")}
    environment = kept | {"PYTHONPATH": str(tmp_path), "BUNDLE": str(tmp_path / "bundle.zip")}
    done = subprocess.run(
        [python, "-c", WATCH + cell + REPORT],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environment | names,
    )
    assert done.returncode == 0, done.stderr
    *lines, report = done.stdout.splitlines()
    return lines, json.loads(report)


def test_outside_colab_it_does_nothing(python: Path, tmp_path: Path) -> None:
    lines, report = run_setup(python, tmp_path, colab=False)
    nothing = {"HW3_PROFILE": None, "HW3_DATA": None, "HW3_RUNS": None}
    assert lines == []
    assert report == {"calls": [], "folder": str(tmp_path), "imported": [], **nothing}


def test_without_an_address_it_takes_the_bundle(python: Path, tmp_path: Path) -> None:
    lines, report = run_setup(python, tmp_path, colab=True)
    home = tmp_path / "content/hw3"
    assert lines[-1] == "asked for the bundle"
    assert report["folder"] == str(home / "book/q1")
    light, package = report["calls"]
    assert "imagecodecs" in light and "tyro" in light and not HEAVY & set(light)
    assert package[1:] == ["-m", "pip", "install", "--quiet", "--no-deps", str(home)]
    assert report["imported"] == []
    assert report["HW3_DATA"] == str(tmp_path / "content/data")


def test_with_an_address_it_clones(python: Path, tmp_path: Path) -> None:
    address = "https://github.com/someone/hw3"
    lines, report = run_setup(python, tmp_path, colab=True, repository=address)
    home = str(tmp_path / "content/hw3")
    assert lines == []
    assert report["calls"][0] == ["git", "clone", "--quiet", "--depth=1", address, home]
    assert report["folder"] == f"{home}/book/q1"


def test_what_is_there_stays_as_it_is(python: Path, tmp_path: Path) -> None:
    for name in ("accelerate", "imagecodecs"):
        (tmp_path / f"{name}.py").write_text("")
    metadata = tmp_path / "torch-2.9.1+cu126.dist-info/METADATA"
    metadata.parent.mkdir()
    metadata.write_text("Metadata-Version: 2.1\nName: torch\nVersion: 2.9.1+cu126\n")
    _, report = run_setup(python, tmp_path, colab=True)
    light = report["calls"][0]
    assert "accelerate" not in light and "imagecodecs" not in light
    assert light[-1] == "torch==2.9.1+cu126"


def test_a_choice_made_before_is_kept_and_drive_is_mounted_when_asked(
    python: Path, tmp_path: Path
) -> None:
    runs = str(tmp_path / "content/drive/MyDrive/hw3")
    lines, report = run_setup(python, tmp_path, colab=True, HW3_RUNS=runs, HW3_PROFILE="smoke")
    assert lines[-1] == f"mounted {tmp_path / 'content/drive'}"
    assert (report["HW3_RUNS"], report["HW3_PROFILE"]) == (runs, "smoke")


def test_drive_is_not_mounted_unasked(python: Path, tmp_path: Path) -> None:
    lines, _ = run_setup(python, tmp_path, colab=True)
    assert not any("mounted" in line for line in lines)


def test_the_cell_knows_every_light_dependency() -> None:
    project = tomllib.loads((notebooks.ROOT / "pyproject.toml").read_text())["project"]
    declared = {Requirement(text).name for text in project["dependencies"]}
    lists = [line for line in notebooks.SETUP.read_text().splitlines() if line.startswith("LIGHT")]
    light = {name for line in lists for name in line.split('"')[1].split()}
    assert light == declared - HEAVY


def test_the_bundle_holds_what_a_notebook_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(book, "BUILD", tmp_path)
    book.colab()
    names = set(zipfile.ZipFile(tmp_path / "hw3-colab.zip").namelist())
    assert {"pyproject.toml", "README.md", "LICENSE", "hw3/__init__.py"} <= names
    made = {path.relative_to(notebooks.ROOT).with_suffix(".ipynb") for path in notebooks.in_order()}
    assert {path.as_posix() for path in made if (notebooks.ROOT / path).exists()} <= names
    assert not any("__pycache__" in name for name in names)
