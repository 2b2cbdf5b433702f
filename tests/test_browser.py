"""The committed book in a real browser, from the disk, without a network."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from urllib.parse import unquote, urldefrag

import pytest

import book
import notebooks

pytestmark = pytest.mark.skipif(not book.CHROMIUM, reason="needs chromium on the PATH")
AXE = "axe-core-4.14.1"
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"]
FLAGS += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
REPORT_FIGURES = [f"Fig. 1.{n}" for n in range(1, 6)] + [f"Fig. 2.{n}" for n in range(1, 16)]
NAMES = re.findall(r"(?:root|file): (\S+)", (notebooks.ROOT / "_toc.yml").read_text())
DARK = ["book/index", *(f"book/{page}" for page in notebooks.FRONT.values())]


@pytest.fixture(scope="module")
def html() -> Path:
    """The folder of the rendered book."""
    book.html()
    return book.BUILD / "html"


@pytest.fixture(scope="module")
def context() -> Iterator:
    """A browser without a network."""
    api = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=book.CHROMIUM, args=FLAGS)
        yield browser.new_context(offline=True)
        browser.close()


@contextmanager
def opened(context, html: Path, name: str, theme: str = "light") -> Iterator:
    """A tab with one page, which must not have complained when it is closed: it loads nothing from
    elsewhere, for there is no network."""
    page, complaints = context.new_page(), []
    page.on("console", lambda m: complaints.append(m.text) if m.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("requestfailed", lambda request: complaints.append(f"failed: {request.url[:200]}"))
    page.emulate_media(color_scheme=theme)
    page.set_viewport_size({"width": 1280, "height": 900})
    page.goto((html / f"{name}.html").as_uri())
    yield page
    page.close()
    assert complaints == []


@pytest.fixture(scope="module", params=NAMES)
def loaded(request, context, html) -> Iterator:
    """Each page of the book, loaded once for all tests that only look at it."""
    with opened(context, html, request.param) as page:
        yield page


@pytest.fixture(scope="module")
def axe() -> str:
    """The accessibility checker's script, fetched once into the build folder."""
    folder = book.BUILD / "axe"
    script = folder / "package/axe.min.js"
    if not script.exists():
        if not shutil.which("npm"):
            pytest.skip("needs npm to fetch axe-core")
        folder.mkdir(parents=True, exist_ok=True)
        package = AXE[::-1].replace("-", "@", 1)[::-1]
        command = ["npm", "pack", package, "--fetch-retries=0", "--fetch-timeout=20000"]
        if subprocess.run(command, cwd=folder, capture_output=True).returncode:
            pytest.skip("axe-core could not be fetched")
        shutil.unpack_archive(folder / f"{AXE}.tgz", folder)
    return script.read_text()


@cache
def anchors(path: Path) -> set[str]:
    return set(re.findall(r'\bid="([^"]+)"', path.read_text()))


def serious_faults(page, axe: str) -> list[str]:
    page.evaluate(axe)
    options = "{preload: false, resultTypes: ['violations']}"
    script = f"async () => (await axe.run(document.querySelector('article'), {options})).violations"
    return [
        f"{fault['id']}: {node['html'][:200]}"
        for fault in page.evaluate(script)
        if fault["impact"] in ("serious", "critical")
        for node in fault["nodes"]
    ]


def test_page_is_complete_and_its_links_lead_somewhere(loaded) -> None:
    assert loaded.locator("article h1").count() == 1
    seen = "images => images.map(i => [i.alt, i.complete && i.naturalWidth > 0])"
    for text, complete in loaded.locator("article img").evaluate_all(seen):
        assert complete and len(text) > 5, text
    links = loaded.locator("article a[href]").evaluate_all("links => links.map(l => l.href)")
    for target, anchor in map(urldefrag, links):
        if target.startswith("file:"):
            path = Path(unquote(target.removeprefix("file://")))
            assert path.exists(), path
            assert not anchor or unquote(anchor) in anchors(path), (target, anchor)


def test_page_fits_a_laptop_and_a_phone(loaded) -> None:
    tables = "[...document.querySelectorAll('.bd-article table')]"
    hidden = f"{tables}.filter(own => own.scrollWidth > own.clientWidth + 1)"
    assert loaded.evaluate(f"{hidden}.map(own => own.innerText.slice(0, 40))") == []
    loaded.set_viewport_size({"width": 360, "height": 900})
    assert loaded.evaluate("document.documentElement.scrollWidth") <= 360


def test_no_serious_fault_for_readers_with_a_disability(loaded, axe) -> None:
    loaded.set_viewport_size({"width": 1100, "height": 900})
    assert serious_faults(loaded, axe) == []


@pytest.mark.parametrize("name", DARK)
def test_the_dark_theme_is_as_good_and_leaves_figures_on_white(context, html, axe, name) -> None:
    style = "elements => elements.map(own => getComputedStyle(own).backgroundColor)"
    with opened(context, html, name, theme="dark") as page:
        assert page.locator("html").get_attribute("data-theme") == "dark"
        [background] = page.locator("body").evaluate_all(style)
        assert sum(int(level) for level in re.findall(r"\d+", background)[:3]) < 300
        figures = page.locator("article figure img").evaluate_all(style)
        assert set(figures) == ({"rgb(255, 255, 255)"} if name != "book/index" else set())
        assert serious_faults(page, axe) == []


def test_figures_of_the_report_are_there_under_their_numbers(html) -> None:
    pages = [(html / f"{name}.html").read_text() for name in NAMES]
    found = [n for text in pages for n in re.findall(r'caption-number">(Fig\. [\d.]+\d)', text)]
    assert len(found) == len(set(found))
    assert [number for number in REPORT_FIGURES if number not in found] == []


def test_book_prints_with_its_pictures() -> None:
    book.pdf()
    printed = (book.BUILD / "book.pdf").read_bytes()
    assert len(re.findall(rb"/Type\s*/Page\b", printed)) > len(NAMES)
    assert len(re.findall(rb"/Subtype\s*/Image\b", printed)) >= len(REPORT_FIGURES)
