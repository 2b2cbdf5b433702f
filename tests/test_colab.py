"""The set-up cell of the notebooks, in a bare Python beside a stand-in for Google Colab."""

import io
import json
import os
import subprocess
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from test_data import zip_bytes

import book
import notebooks
from hw3 import colab

HEAVY = {*colab.HEAVY, "opencv-python-headless", "pillow"}
"""What Colab has and nobody should reinstall."""
FILES = """
from pathlib import Path
uploads = iter(sorted(Path("uploads").iterdir()))
def upload():
    print("asked")
    return {path.name: path.read_bytes() for path in sorted(next(uploads).iterdir())}
"""
DRIVE = "def mount(folder): print('mounted', folder)"
BEFORE = """
import json, os, subprocess, sys
if os.path.exists("google"):
    import google.colab
calls = []
def run(command, check):
    calls.append(command)
    if "clone" in command:
        os.rename("clone", command[-1])
subprocess.run = run
"""
AFTER = """
names = {name: os.environ.get(name) for name in ("HW3_PROFILE", "HW3_DATA", "HW3_RUNS")}
imported = [name for name in ("torch", "numpy", "scipy") if name in sys.modules]
print(json.dumps({"calls": calls, "folder": os.getcwd(), "imported": imported, **names}))
from importlib.util import find_spec
assert find_spec("beyond")
"""


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bare virtual environment: no torch, no numpy, not even pip."""
    folder = tmp_path_factory.mktemp("bare")
    venv.create(folder, with_pip=False)
    return folder / "bin/python"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """What `make colab` writes."""
    folder = tmp_path_factory.mktemp("bundle")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(book, "BUILD", folder)
        book.colab()
    return (folder / "hw3-colab.zip").read_bytes()


@pytest.fixture
def content(tmp_path: Path) -> Path:
    """What stands for Colab's /content: its packages, and a folder of uploads."""
    package = tmp_path / "google/colab"
    package.mkdir(parents=True)
    for name, text in (("__init__", ""), ("files", FILES), ("drive", DRIVE)):
        (package / f"{name}.py").write_text(text)
    (tmp_path / "uploads").mkdir()
    return tmp_path


def offer(content: Path, *uploads: dict[str, bytes]) -> None:
    """The files that a person chooses, time after time."""
    for number, chosen in enumerate(uploads):
        (content / f"uploads/{number}").mkdir()
        for name, own in chosen.items():
            (content / f"uploads/{number}/{name}").write_bytes(own)


def run_setup(python: Path, content: Path, setup: str = notebooks.SETUP, **names: str) -> tuple:
    """Lines that a set-up cell printed, and what it left; subprocess.run only takes notes."""
    cell = setup.replace("/content", str(content)).replace("FOLDER", "book/q1")
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HW3_")}
    command, environment = [python, "-c", BEFORE + cell + AFTER], kept | names
    options = {"capture_output": True, "text": True, "timeout": 60}
    done = subprocess.run(command, cwd=content, env=environment, **options)
    assert done.returncode == 0, done.stderr
    *lines, report = done.stdout.splitlines()
    return lines, json.loads(report)


def test_outside_colab_it_only_goes_to_its_own_folder(python, tmp_path, bundle) -> None:
    zipfile.ZipFile(io.BytesIO(bundle)).extractall(tmp_path)
    lines, report = run_setup(python, tmp_path)
    nothing = {"HW3_PROFILE": None, "HW3_DATA": None, "HW3_RUNS": None}
    assert lines == []
    own = str(tmp_path / "book/q1")
    assert report == {"calls": [], "folder": own, "imported": [], **nothing}
    assert run_setup(python, Path(own), PYTHONPATH=str(tmp_path))[1] == report


def test_without_an_address_it_takes_the_bundle(python: Path, content: Path, bundle: bytes) -> None:
    offer(content, {"hw3-colab (1).zip": bundle})
    lines, report = run_setup(python, content)
    assert [line for line in lines if line == "asked"] == ["asked"]
    assert report["folder"] == str(content / "book/q1")
    [install] = report["calls"]
    assert set(colab.LIGHT.split()) <= set(install) and not HEAVY & set(install)
    assert (report["HW3_DATA"], report["HW3_RUNS"]) == ("/content/data", "/content/runs")
    assert report["imported"] == [] and not any("mounted" in line for line in lines)
    assert run_setup(python, content)[0] == []  # as after a restart of the kernel


def test_with_anything_but_the_bundle_it_asks_again(python, content, bundle) -> None:
    of_github = {"of-github.zip": zip_bytes({"hw3-main/hw3/colab.py": b""})}
    several = of_github | {"another.zip": zip_bytes({"a.txt": b""})}
    wrong = [{}, {"page.ipynb": b"{}"}, {"hw3-colab.zip": bundle[:-1000]}, of_github, several]
    offer(content, *wrong, {"hw3-colab.zip": bundle})
    lines, report = run_setup(python, content)
    assert lines.count("asked") == sum("hw3-colab.zip" in line for line in lines) == 6
    assert report["folder"] == str(content / "book/q1")


def test_with_an_address_it_clones(python: Path, content: Path, bundle: bytes) -> None:
    zipfile.ZipFile(io.BytesIO(bundle)).extractall(content / "clone")
    address = "https://github.com/someone/hw3"
    setup = notebooks.SETUP_BY_CLONE.replace("REPOSITORY", address)
    home = str(content / "report")
    _, report = run_setup(python, content, setup)
    assert report["calls"][0] == ["git", "clone", "--quiet", "--depth=1", address, home]
    assert report["folder"] == f"{home}/book/q1"
    assert len(run_setup(python, content, setup)[1]["calls"]) == 1  # no clone again


def test_what_was_there_or_chosen_stays_and_drive_is_mounted(python, content, bundle) -> None:
    for name in ("accelerate", "imagecodecs"):
        (content / f"{name}.py").write_text("")
    metadata = content / "torch-2.9.1+cu126.dist-info/METADATA"
    metadata.parent.mkdir()
    metadata.write_text("Metadata-Version: 2.1\nName: torch\nVersion: 2.9.1+cu126\n")
    offer(content, {"hw3-colab.zip": bundle})
    runs = "/content/drive/MyDrive/hw3"
    lines, report = run_setup(python, content, HW3_RUNS=runs, HW3_PROFILE="smoke")
    [install] = report["calls"]
    assert not {"accelerate", "imagecodecs"} & set(install)
    assert install[-1] == "torch==2.9.1+cu126"
    assert lines[-1] == "mounted /content/drive"
    assert (report["HW3_RUNS"], report["HW3_PROFILE"]) == (runs, "smoke")


def test_the_package_knows_every_light_dependency() -> None:
    project = tomllib.loads((notebooks.ROOT / "pyproject.toml").read_text())["project"]
    declared = {Requirement(text).name for text in project["dependencies"]}
    assert set(colab.LIGHT.split()) == declared - HEAVY


def test_the_bundle_holds_what_a_notebook_needs(bundle: bytes) -> None:
    names = set(zipfile.ZipFile(io.BytesIO(bundle)).namelist())
    weights = [path.name for path in (notebooks.ROOT / "hw3/weights").iterdir()]
    assert {"pyproject.toml", "README.md", "LICENSE", "hw3/__init__.py"} <= names
    assert weights and {f"hw3/weights/{name}" for name in weights} <= names
    made = {path.relative_to(notebooks.ROOT).with_suffix(".ipynb") for path in notebooks.in_order()}
    assert {path.as_posix() for path in made if (notebooks.ROOT / path).exists()} <= names
    assert not any("__pycache__" in name for name in names)
