"""Which notebooks are run again, which run side by side, and whose runs they find."""

from pathlib import Path

import nbformat
import pytest
from nbclient.exceptions import CellExecutionError

import book
import notebooks


@pytest.fixture
def ran(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, str]]]:
    """A small tree in place of the repository; the list says which notebooks were run, and how."""
    (tmp_path / "book/q1").mkdir(parents=True)
    (tmp_path / "hw3").mkdir()
    names = ("requirements.lock", "hw3/training.py", "book/q1/a.py", "book/q1/b.py")
    for name in (*names, "book/beyond.py"):
        (tmp_path / name).write_text("# %%\n1\n")
    (tmp_path / "_config.yml").touch()
    (tmp_path / "_toc.yml").write_text("root: book/q1/b\nchapters: [{file: book/q1/a}]")
    for module in (book, notebooks):
        monkeypatch.setattr(module, "ROOT", tmp_path)
    monkeypatch.setattr(book, "BUILD", tmp_path / "build")
    for name in book.environment():
        monkeypatch.delenv(name, raising=False)
    done: list[tuple[str, dict[str, str]]] = []

    def execute(path: Path, folder: Path, told: dict[str, str]) -> nbformat.NotebookNode:
        assert folder == tmp_path / "build/book/source/book/q1"
        Path(told["HW3_RUNS"]).mkdir(parents=True, exist_ok=True)
        done.append((path.name, told))
        return notebooks.read(path)

    monkeypatch.setattr(notebooks, "execute", execute)
    return done


def run(ran: list) -> set[str]:
    """The notebooks that one more call runs, each once."""
    ran.clear()
    pages = list(book.run_all(book.stage("book")))
    assert [path.name for path, _ in pages] == ["b.py", "a.py"]  # as in the contents
    assert all(made.exists() for _, made in pages)
    names = [name for name, _ in ran]
    assert len(set(names)) == len(names)
    return set(names)


def test_a_notebook_that_fails_ends_the_run_with_its_name(ran, monkeypatch) -> None:
    def fail(*_arguments: object) -> None:
        raise CellExecutionError("cell 3 \x1b[31mfailed\x1b[0m", "ValueError", "no")

    monkeypatch.setattr(notebooks, "execute", fail)
    with pytest.raises(SystemExit, match=r"^book/q1/b\.py failed:\ncell 3 failed$"):
        run(ran)


@pytest.mark.parametrize(
    ("name", "again"),
    [
        ("book/q1/a.py", {"a.py"}),
        ("book/beyond.py", {"a.py", "b.py"}),
        ("hw3/training.py", {"a.py", "b.py"}),
        ("hw3/new.py", {"a.py", "b.py"}),
        ("requirements.lock", {"a.py", "b.py"}),
        ("book/runs/first.json", {"a.py", "b.py"}),
        ("_toc.yml", set()),
    ],
)
def test_only_what_changed_is_run_again(ran: list, name: str, again: set[str]) -> None:
    assert run(ran) == {"a.py", "b.py"}
    assert run(ran) == set()
    changed = book.ROOT / name
    changed.parent.mkdir(exist_ok=True)
    changed.write_text(changed.read_text() + "\n# more\n" if changed.exists() else "{}")
    assert run(ran) == again


def test_a_changed_package_finds_no_runs_of_the_older_one(ran: list) -> None:
    run(ran)
    before = {told[name] for _, told in ran for name in ("HW3_DATA", "HW3_RUNS")}
    (book.ROOT / "hw3/training.py").write_text("# %%\n2\n")
    run(ran)
    after = {told[name] for _, told in ran for name in ("HW3_DATA", "HW3_RUNS")}
    assert len(before) == len(after) == 2 and not before & after
    assert not any(Path(folder).exists() for folder in before)


def test_another_profile_is_run_again_and_real_runs_outlive_a_change(ran, monkeypatch) -> None:
    run(ran)
    monkeypatch.setenv("HW3_PROFILE", "full")
    assert run(ran) == {"a.py", "b.py"}
    runs = Path(ran[0][1]["HW3_RUNS"])
    (book.ROOT / "hw3/training.py").write_text("# %%\n2\n")
    run(ran)
    assert runs.exists() and ran[0][1]["HW3_RUNS"] == str(runs)


def test_what_trains_runs_alone_and_the_rest_between(tmp_path: Path) -> None:
    pages = [tmp_path / f"{number}.py" for number in range(5)]
    for number, page in enumerate(pages):
        tags = '["hide-input", "alone"]' if number in (2, 3) else '["hide-input"]'
        page.write_text(f"# %%\n'alone'\n# %% tags={tags}\n1\n")
    names = [[path.stem for path in group] for group in book.groups(pages)]
    assert names == [["0", "1"], ["2"], ["3"], ["4"]]


@pytest.mark.parametrize("question", ["segmentation", "detection"])
def test_the_first_page_that_makes_data_and_the_first_that_trains_run_alone(question: str) -> None:
    texts = [path.read_text() for path in notebooks.in_order()]
    own = [text for text in texts if f"hw3.{question}" in text]
    for call in ("experiment.prepare(", "experiment.run("):
        assert book.ALONE.search(next(text for text in own if call in text)), call
