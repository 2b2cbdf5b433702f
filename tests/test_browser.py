"""The committed book in a real browser, from the disk, without a network."""

import re
import shutil
import subprocess
from collections.abc import Iterator
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
by_name = pytest.mark.parametrize("name", NAMES)


@pytest.fixture(scope="session")
def html() -> Path:
    """The folder of the rendered book."""
    book.html()
    return book.BUILD / "html"


@pytest.fixture(scope="session")
def context() -> Iterator:
    """A browser without a network."""
    api = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=book.CHROMIUM, args=FLAGS)
        yield browser.new_context(offline=True)
        browser.close()


@pytest.fixture
def page(context) -> Iterator:
    """A fresh tab, which must not have complained when the test ends."""
    page, complaints = context.new_page(), []
    page.on("console", lambda m: complaints.append(m.text) if m.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("requestfailed", lambda request: complaints.append(f"failed: {request.url[:200]}"))
    yield page
    page.close()
    assert complaints == []


def opened(page, html: Path, name: str, width: int = 1100):
    page.set_viewport_size({"width": width, "height": 900})
    page.goto((html / f"{name}.html").as_uri())
    return page


@by_name
def test_page_loads_from_the_disk_and_is_complete(page, html, name) -> None:
    opened(page, html, name)
    assert page.locator("article h1").count() == 1
    for picture in page.locator("article img").all():
        assert picture.evaluate("image => image.complete && image.naturalWidth > 0")
        assert len(picture.get_attribute("alt") or "") > 5


@by_name
def test_links_within_the_book_lead_somewhere(page, html, name) -> None:
    opened(page, html, name)
    here = (html / f"{name}.html").as_uri()
    for link in page.locator("article a[href]").all():
        target, anchor = urldefrag(link.evaluate("link => link.href"))
        if target.startswith("file:"):
            path = Path(unquote(target.removeprefix("file://")))
            assert path.exists(), f"{here} links to {path}"
            assert not anchor or f'id="{unquote(anchor)}"' in path.read_text(), (target, anchor)


@by_name
def test_phone_does_not_scroll_sideways(page, html, name) -> None:
    opened(page, html, name, width=360)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_theme_follows_the_reader_and_figures_stay_on_white(page, html, theme) -> None:
    page.emulate_media(color_scheme=theme)
    opened(page, html, "book/q2/2_2_two_stage")
    assert page.locator("html").get_attribute("data-theme") == theme
    style = "element => getComputedStyle(element).backgroundColor"
    background = page.locator("body").evaluate(style)
    levels = [int(level) for level in re.findall(r"\d+", background)[:3]]
    assert (sum(levels) > 600) == (theme == "light")
    figure = page.locator("article figure img").first
    assert theme == "light" or figure.evaluate(style) == "rgb(255, 255, 255)"


def test_figures_of_the_report_are_there_under_their_numbers(page, html) -> None:
    found = []
    for name in NAMES:
        opened(page, html, name)
        texts = page.locator("article figcaption .caption-number").all_text_contents()
        found += [text.strip() for text in texts]
    assert len(found) == len(set(found))
    assert [number for number in REPORT_FIGURES if number not in found] == []


@pytest.mark.parametrize("name", ["book/q1/1_7_evaluation", "book/q2/2_2_two_stage"])
def test_slider_answers_to_the_keyboard(page, html, name) -> None:
    slider = opened(page, html, name).locator(".hw3-slider")
    assert slider.count() == 1
    before = slider.locator("td").all_text_contents()
    slider.locator("input").focus()
    for _ in range(20):
        page.keyboard.press("ArrowLeft")
    assert slider.locator("output").text_content() == "0.30"
    lower = slider.locator("td").all_text_contents()
    assert lower != before
    for _ in range(20):
        page.keyboard.press("ArrowRight")
    assert slider.locator("td").all_text_contents() == before


def test_book_prints_with_its_pictures() -> None:
    book.pdf()
    printed = (book.BUILD / "book.pdf").read_bytes()
    assert len(re.findall(rb"/Type\s*/Page\b", printed)) > len(NAMES)
    assert len(re.findall(rb"/Subtype\s*/Image\b", printed)) >= len(REPORT_FIGURES)


@pytest.fixture(scope="session")
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


IN_BOTH_THEMES = ["book/index", "book/q1/1_7_evaluation", "book/q2/2_2_two_stage"]


@pytest.mark.parametrize(
    ("theme", "name"),
    [("light", name) for name in NAMES] + [("dark", name) for name in IN_BOTH_THEMES],
)
def test_no_serious_fault_for_readers_with_a_disability(page, html, axe, theme, name) -> None:
    page.emulate_media(color_scheme=theme)
    opened(page, html, name)
    page.evaluate(axe)
    found = page.evaluate("axe.run(document.querySelector('article'), {preload: false})")

    serious = [
        f"{fault['id']}: {node['html'][:200]}"
        for fault in found["violations"]
        if fault["impact"] in ("serious", "critical")
        for node in fault["nodes"]
    ]
    assert serious == []
