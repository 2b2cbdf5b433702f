from pathlib import Path

import nbformat
import pytest
from nbclient.exceptions import CellExecutionError

import book
import notebooks


@pytest.fixture
def ran(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A small tree in place of the repository; the list says which notebooks were run in it."""
    (tmp_path / "book/q1").mkdir(parents=True)
    (tmp_path / "hw3").mkdir()
    for name in ("requirements.lock", "hw3/training.py", "book/q1/a.py", "book/q1/b.py"):
        (tmp_path / name).write_text("# %%\n1\n")
    (tmp_path / "_config.yml").touch()
    (tmp_path / "_toc.yml").write_text("root: book/q1/b\nchapters: [{file: book/q1/a}]")
    for module in (book, notebooks):
        monkeypatch.setattr(module, "ROOT", tmp_path)
    monkeypatch.setattr(book, "BUILD", tmp_path / "build")
    names: list[str] = []

    def execute(path: Path, folder: Path, environment: dict[str, str]) -> nbformat.NotebookNode:
        assert folder == tmp_path / "build/book/source/book/q1"
        names.append(path.name)
        return notebooks.read(path)

    monkeypatch.setattr(notebooks, "execute", execute)
    return names


def run(names: list[str]) -> set[str]:
    """The notebooks that one more call runs, each once."""
    names.clear()
    pages = list(book.run_all(book.stage("book")))
    assert [path.name for path, _ in pages] == ["b.py", "a.py"]  # as in the contents
    assert all(made.exists() for _, made in pages)
    assert len(set(names)) == len(names)
    return set(names)


def test_notebooks_are_run_only_once(ran: list[str]) -> None:
    assert run(ran) == {"a.py", "b.py"}
    assert run(ran) == set()


def test_a_notebook_that_fails_ends_the_run_with_its_name(
    ran: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_arguments: object) -> None:
        raise CellExecutionError("cell 3 \x1b[31mfailed\x1b[0m", "ValueError", "no")

    monkeypatch.setattr(notebooks, "execute", fail)
    with pytest.raises(SystemExit, match=r"^book/q1/b\.py failed:\ncell 3 failed$"):
        run(ran)


def test_what_trains_runs_alone_and_the_rest_between() -> None:
    pages = [Path(f"{stem}.py") for stem in ("1_1_a", "1_5_b", "1_6_c", "2_2_d", "2_4_e")]
    names = [[path.stem for path in group] for group in book.groups(pages)]
    assert names == [["1_1_a", "1_5_b"], ["1_6_c"], ["2_2_d"], ["2_4_e"]]


def test_the_sections_that_run_alone_are_in_the_book() -> None:
    alone = [group for group in book.groups(notebooks.in_order()) if len(group) == 1]
    stems = {path.stem[:3] for group in alone for path in group}
    assert stems >= set(book.ALONE)


@pytest.mark.parametrize(
    ("name", "again"),
    [
        ("book/q1/a.py", {"a.py"}),
        ("hw3/training.py", {"a.py", "b.py"}),
        ("hw3/new.py", {"a.py", "b.py"}),
        ("requirements.lock", {"a.py", "b.py"}),
        ("book/runs/first.json", {"a.py", "b.py"}),
        ("_toc.yml", set()),
    ],
)
def test_only_what_changed_is_run_again(ran: list[str], name: str, again: set[str]) -> None:
    run(ran)
    changed = book.ROOT / name
    changed.parent.mkdir(exist_ok=True)
    changed.write_text(changed.read_text() + "\n# more\n" if changed.exists() else "{}")
    assert run(ran) == again


def test_another_profile_is_run_again(ran: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HW3_PROFILE", "sample")
    run(ran)
    monkeypatch.setenv("HW3_PROFILE", "smoke")
    assert run(ran) == {"a.py", "b.py"}


def test_loads_from_other_hosts_are_found_and_links_are_not(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text(
        '<script async src="https://a.example/a.js"></script><img alt="" src="//b.example/b.png">'
        '<link href="https://c.example/c.css" rel="stylesheet"/>'
        '<a href="https://fine.example">fine</a><img src="fine.png"><script src="fine.js"></script>'
    )
    (tmp_path / "b.css").write_text(
        '@import "https://d.example/d.css"; a { background: url(//e.example/e.png) }'
        " b { background: url(data:fine) } i { background: url('fine.png') }"
    )
    hosts = [line.split("//")[1][0] for line in book.outside_loads(tmp_path)]
    assert hosts == ["a", "b", "c", "d", "e"]
