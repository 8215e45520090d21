"""The report of a real run in a real browser: nothing missing, nothing loaded, readable small, large, without script,
and on paper."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers import PICTURES, Campaign, run_well

browsers = pytest.importorskip("playwright.sync_api", reason="no playwright: pip install -r requirements-dev.txt")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: install Debian's package chromium")

EVIL = '<script>document.title="hacked"</script><img src=x onerror="document.title=\'hacked\'">'


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with browsers.sync_playwright() as play:
        opened = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def report(reported: Campaign) -> Path:
    return reported.out / "evaluation" / "report.html"


class Seen:
    """A page, with everything that it said and asked for."""

    def __init__(self, browser: Any, path: Path, width: int = 1400, **options: Any) -> None:
        self.context = browser.new_context(viewport={"width": width, "height": 900}, **options)
        self.page = self.context.new_page()
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(path.as_uri())

    def __enter__(self) -> Seen:
        return self

    def __exit__(self, *_: object) -> None:
        self.context.close()

    def ask(self, script: str) -> Any:
        return self.page.evaluate(script)


def test_it_opens_quietly_and_asks_for_nothing(browser: Any, report: Path) -> None:
    with Seen(browser, report) as seen:
        assert seen.complaints == []
        assert [url for url in seen.requests if not url.startswith("data:")] == [report.as_uri()]


def test_every_picture_is_there(browser: Any, report: Path) -> None:
    with Seen(browser, report) as seen:
        sizes = seen.ask("[...document.images].map(i => [i.naturalWidth, i.clientWidth, i.clientHeight, i.alt.length])")
        assert len(sizes) > 20
        assert all(min(size) > 0 for size in sizes)


@pytest.mark.parametrize("script", [True, False])
@pytest.mark.parametrize("width", [320, 400, 800, 1400, 2200])
def test_the_page_never_scrolls_sideways(browser: Any, report: Path, width: int, script: bool) -> None:
    with Seen(browser, report, width, java_script_enabled=script) as seen:
        right = 0.0
        for element in seen.page.query_selector_all("h1, h2, p, ul, dl, figure, .scroll, nav"):
            box = element.bounding_box()
            right = max(right, box["x"] + box["width"]) if box else right
        assert 0 < right <= width
        assert seen.ask("document.documentElement.scrollWidth") <= width


def texts(seen: Seen, column: int) -> list[str]:
    table = "table.sortable:has(caption:text('Errors of each cell'))"
    return [str(cell.inner_text()) for cell in seen.page.query_selector_all(f"{table} tbody tr > :nth-child({column})")]


def numbers(cells: list[str]) -> list[float]:
    return [float(re.sub("[,\u00a0]", "", cell).replace("−", "-")) for cell in cells]


def test_tables_sort_by_click_and_key(browser: Any, report: Path) -> None:
    with Seen(browser, report) as seen:
        heads = seen.page.query_selector_all("table.sortable:has(caption:text('Errors of each cell')) thead th")
        column = next(k for k, head in enumerate(heads, 1) if "MAE held out" in head.inner_text())
        before = numbers(texts(seen, column))
        button = heads[column - 1].query_selector("[role=button]")
        assert button is not None
        button.click()
        up = numbers(texts(seen, column))
        assert up == sorted(before) != before
        assert heads[column - 1].get_attribute("aria-sort") == "ascending"
        button.press("Enter")
        assert numbers(texts(seen, column)) == up[::-1]
        assert heads[column - 1].get_attribute("aria-sort") == "descending"
        first = heads[0].query_selector("[role=button]")
        assert first is not None
        first.click()  # °C: by value, not by letter
        assert numbers(texts(seen, 1)) == sorted(numbers(texts(seen, 1)))
        assert heads[column - 1].get_attribute("aria-sort") is None
        assert seen.complaints == []


def test_a_picture_opens_in_full_size_and_closes(browser: Any, report: Path) -> None:
    with Seen(browser, report, 400) as seen:
        picture = seen.page.query_selector("img[alt^='Map of the master dark']")
        assert picture is not None
        picture.click()
        large = seen.page.wait_for_selector("dialog[open] img")
        assert large is not None
        assert large.bounding_box()["width"] == seen.ask("document.querySelector('dialog img').naturalWidth")  # type: ignore[index]
        seen.page.keyboard.press("Escape")
        seen.page.wait_for_selector("dialog", state="detached")
        assert seen.complaints == []


def test_it_is_read_without_script(browser: Any, report: Path) -> None:
    with Seen(browser, report, java_script_enabled=False) as seen:
        text = seen.page.inner_text("main")
        for word in ("Held-out error", "Doubling temperature", "Frames of each cell", "Errors by signal"):
            assert word in text
        assert all(table.is_visible() for table in seen.page.query_selector_all("table"))
        assert seen.page.query_selector("[role=button]") is None


def test_headings_and_contents_fit_together(browser: Any, report: Path) -> None:
    with Seen(browser, report) as seen:
        assert seen.ask("document.querySelectorAll('h1').length") == 1
        targets = seen.ask("[...document.querySelectorAll('nav a')].map(a => a.getAttribute('href').slice(1))")
        assert targets == seen.ask("[...document.querySelectorAll('main > section')].map(s => s.id)")
        assert seen.ask("[...document.querySelectorAll('table')].every(t => t.caption && t.tHead)")
        assert seen.ask("document.documentElement.lang") == "en"


def test_it_prints(browser: Any, report: Path) -> None:
    with Seen(browser, report) as seen:
        pdf = seen.page.pdf(format="A4", print_background=True)
        assert pdf.startswith(b"%PDF")
        assert 5 <= len(re.findall(rb"/Type\s*/Page\b", pdf)) <= 40
        seen.page.emulate_media(media="print")
        assert not seen.page.is_visible("nav")
        assert seen.ask(
            "[...document.querySelectorAll('.scroll')].every(s => getComputedStyle(s).overflowX === 'visible')"
        )
        seen.page.set_viewport_size({"width": 703, "height": 1000})  # A4 less its margins
        widest = seen.ask(
            "Math.max(...[...document.querySelectorAll('table, img')].map(t => t.getBoundingClientRect().right))"
        )
        assert widest <= 703


def test_what_others_wrote_stays_text(browser: Any, reported: Campaign, tmp_path: Path) -> None:
    """A camera's name, a file's name and a table with a script in them."""
    campaign = reported.copied_to(tmp_path / "campaign")
    index = campaign.out / "index.ecsv"
    name = "zz_<b onclick=alert(1)>&.fits"
    (campaign.raw / name).write_bytes(b"no FITS")
    description = campaign.model / "model.yaml"
    run_well(campaign, evaluate_model=PICTURES, report={"write": True})
    assert name in index.read_text(encoding="utf-8")
    text = description.read_text(encoding="utf-8")
    quoted = EVIL.replace("'", "''")
    assert "camera: Simulated CCD" in text
    description.write_text(text.replace("camera: Simulated CCD", f"camera: '{quoted}'"), encoding="utf-8")
    run_well(campaign, "report", report={"write": True})
    path = campaign.out / "evaluation" / "report.html"
    with Seen(browser, path) as seen:
        assert seen.complaints == []
        assert EVIL in seen.page.inner_text("h1")
        assert seen.page.title() != "hacked"
        assert seen.ask("document.querySelectorAll('script').length") == 1
        assert seen.ask("document.querySelectorAll('[onclick], [onerror]').length") == 0
        assert name in seen.page.inner_text("#campaign")


def test_even_a_script_that_came_through_would_not_run(browser: Any, report: Path, tmp_path: Path) -> None:
    altered = tmp_path / "altered.html"
    text = report.read_text(encoding="utf-8").replace("</main>", "<script>document.title='hacked'</script></main>")
    altered.write_text(text, encoding="utf-8")
    with Seen(browser, altered) as seen:
        assert seen.page.title() != "hacked"
        assert any("Content Security Policy" in complaint for complaint in seen.complaints)
