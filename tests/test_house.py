import re
import tomllib
from itertools import chain
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

import hw3

ROOT = Path(__file__).resolve().parent.parent
CONDA_NAMES = {
    "opencv-python-headless": "py-opencv",
    "playwright": "playwright-python",
    "torch": "pytorch",
}
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))


def declared() -> dict[str, SpecifierSet]:
    """Every requirement of pyproject.toml, the extras included, by canonical name."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    texts = [*project["dependencies"], *chain(*project["optional-dependencies"].values())]
    found = {canonicalize_name(item.name): item.specifier for item in map(Requirement, texts)}
    return found | {"python": SpecifierSet(project["requires-python"])}


def pinned() -> dict[str, str]:
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    return {canonicalize_name(name): pin for name, pin in (line.split("==") for line in lines)}


def targets() -> set[str]:
    return set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def test_the_conda_environment_has_pyprojects_ranges() -> None:
    content = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    [from_pip] = [item["pip"] for item in content if isinstance(item, dict)]
    assert from_pip.pop() == "-e ."
    names = [item for item in content if isinstance(item, str) and item != "pip"]
    found = [Requirement(item) for item in names + from_pip]
    expected = {CONDA_NAMES.get(name, name): ranges for name, ranges in declared().items()}
    assert {item.name: item.specifier for item in found} == expected


def test_the_lock_file_pins_every_dependency_within_its_range() -> None:
    wanted = {name: ranges for name, ranges in declared().items() if name != "python"}
    assert wanted.keys() <= pinned().keys()
    outside = {name for name, ranges in wanted.items() if pinned()[name] not in ranges}
    assert not outside


def test_no_file_names_a_package_index() -> None:
    option = re.compile(r"--(extra-)?index-url|--find-links|registry\s*=|index-servers")
    names = ["requirements.lock", "Makefile", ".ci/run", "environment.yml", "pyproject.toml"]
    for path in [*(ROOT / name for name in names), *WORKFLOWS]:
        assert not option.search(path.read_text()), path
    assert "//" not in (ROOT / "requirements.lock").read_text()


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", ".ci/run"])
def test_commands_that_are_named_exist(name: str) -> None:
    lines = re.findall(r"(?:^|`)make ([a-z ]+)", (ROOT / name).read_text(), re.MULTILINE)
    named = {target for line in lines for target in line.split()}
    assert named and named <= targets()


def test_help_lists_every_target() -> None:
    described = re.findall(r"^([a-z]+):.*## \w", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert set(described) == targets()


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_workflows_run_what_a_person_would(path: Path) -> None:
    jobs = yaml.safe_load(path.read_text())["jobs"].values()
    commands = [step["run"] for job in jobs for step in job["steps"] if "run" in step]
    assert commands and set(commands) <= {"bash .ci/run", "make html"}


def test_the_oldest_python_and_a_newer_one_are_checked() -> None:
    workflow = yaml.safe_load((ROOT / ".github/workflows/check.yml").read_text())
    oldest, *newer = workflow["jobs"]["check"]["strategy"]["matrix"]["python"]
    assert declared()["python"] == SpecifierSet(f">={oldest}") and newer


def test_the_version_stands_in_one_place() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == hw3.__version__


def test_arrows_point_down_only() -> None:
    """Neither question imports the other, nor does what both use import one."""
    folder = Path(hw3.__file__).parent
    for own, others in (
        ("records.py", "segmentation|detection"),
        ("training.py", "segmentation|detection"),
        ("settings.py", "segmentation|detection"),
        ("segmentation/*.py", "detection"),
        ("detection/*.py", "segmentation"),
    ):
        texts = [path.read_text() for path in folder.glob(own)]
        imported = re.findall(r"^\s*(?:from|import) hw3\S*.*", "".join(texts), re.MULTILINE)
        assert imported and not re.search(others, "".join(imported))
