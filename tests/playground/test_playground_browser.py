"""The playground in a real headless browser: type, see colours, ask why, fork.

`make test-browser`; the browser is Chromium, from CHROMIUM, the path or Playwright's own.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Error, Page, expect, sync_playwright

from langgraph_switch import Switch
from langgraph_switch.families import embedded_config
from langgraph_switch.palette import color_of
from langgraph_switch.playground.page import build_page, launch_page
from langgraph_switch.playground.session import Session

pytestmark = [pytest.mark.browser, pytest.mark.enable_socket]

QUESTION = "How many legs do 3 spiders and 2 cats have in total?"
SEGMENTS = "#{} .textfield .token"


@pytest.fixture(scope="module")
def address() -> str:
    session = Session(Switch(embedded_config()))
    return launch_page(build_page(session, title="Test"), host="127.0.0.1", port=None, wait=False)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    names = ("chromium", "chromium-browser", "google-chrome")
    found = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, names)), None)
    with sync_playwright() as playwright:
        try:
            opened = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        except Error as err:
            pytest.skip(f"NO BROWSER: the playground was not tested. {err}")
        yield opened
        opened.close()


@pytest.fixture
def page(browser: Browser, address: str) -> Iterator[Page]:
    opened = browser.new_page(viewport={"width": 1200, "height": 900})
    foreign: list[str] = []
    opened.on("request", lambda request: foreign.append(request.url))
    opened.goto(address)
    yield opened
    opened.close()
    assert [url for url in foreign if "127.0.0.1" not in url and not url.startswith("data:")] == []


def ask(page: Page) -> None:
    page.fill("#question textarea", QUESTION)
    page.click("#ask")
    expect(page.locator("#response")).to_contain_text("The answer is 32.", timeout=30_000)
    expect(page.get_by_text("Download the trace")).to_be_enabled()


def test_a_response_is_shown_in_its_speakers_colours(page: Page) -> None:
    ask(page)
    styles = page.locator(SEGMENTS.format("response")).evaluate_all(
        "all => all.map(one => one.style.backgroundColor)"
    )
    wanted = color_of(embedded_config().names)
    colors = {name: tuple(bytes.fromhex(color[1:])) for name, color in wanted.items()}
    aligned, finetuned = (str(colors[name]).strip("()") for name in ("aligned", "finetuned"))
    assert aligned in styles[0]
    assert finetuned in styles[1]
    legend = page.locator("#response .legend").inner_text()
    assert all(name in legend for name in wanted)


def test_a_segment_tells_who_else_might_have_written_it(page: Page) -> None:
    ask(page)
    page.locator(SEGMENTS.format("response")).nth(1).click()
    expect(page.locator("#told")).to_contain_text("Segment 2: finetuned, decided by switcher")
    expect(page.locator("#chances")).to_contain_text("finetuned")
    expect(page.locator("#chances")).to_contain_text("%")


def test_a_fork_stands_beside_the_response(page: Page, tmp_path: Path) -> None:
    ask(page)
    page.locator(SEGMENTS.format("response")).nth(1).click()
    expect(page.locator("#fork-here")).to_be_enabled()
    page.click("#fork-here")
    forked = page.locator(SEGMENTS.format("fork"))
    expect(forked.nth(1)).to_be_visible(timeout=30_000)
    expect(forked.first).to_have_text("Let us find the legs.")
    page.screenshot(path=tmp_path / "fork.png")
    with page.expect_download() as started:
        page.get_by_text("Download the trace").click()
    trace = json.loads(Path(started.value.path()).read_text(encoding="utf-8"))
    assert trace["segments"][0]["speaker"] == "aligned"


def test_an_empty_question_is_answered_by_an_error(page: Page) -> None:
    page.fill("#question textarea", "  ")
    page.click("#ask")
    expect(page.get_by_text("The query is empty")).to_be_visible()
