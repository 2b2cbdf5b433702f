from pathlib import Path

import nbformat
import pytest

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


def run(names: list[str]) -> list[str]:
    """The notebooks that one more call runs."""
    names.clear()
    made = [made for _, made in book.run_all(book.stage("book"))]
    assert all(path.exists() for path in made)
    return list(names)


def test_notebooks_run_in_the_order_of_the_contents_and_only_once(ran: list[str]) -> None:
    assert run(ran) == ["b.py", "a.py"]
    assert run(ran) == []


@pytest.mark.parametrize(
    ("name", "again"),
    [
        ("book/q1/a.py", ["a.py"]),
        ("hw3/training.py", ["b.py", "a.py"]),
        ("hw3/new.py", ["b.py", "a.py"]),
        ("requirements.lock", ["b.py", "a.py"]),
        ("book/runs/first.json", ["b.py", "a.py"]),
        ("_toc.yml", []),
    ],
)
def test_only_what_changed_is_run_again(ran: list[str], name: str, again: list[str]) -> None:
    run(ran)
    changed = book.ROOT / name
    changed.parent.mkdir(exist_ok=True)
    changed.write_text(changed.read_text() + "\n# more\n" if changed.exists() else "{}")
    assert run(ran) == again


def test_another_profile_is_run_again(ran: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HW3_PROFILE", "sample")
    run(ran)
    monkeypatch.setenv("HW3_PROFILE", "smoke")
    assert run(ran) == ["b.py", "a.py"]


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
