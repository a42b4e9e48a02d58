"""A person's way through the app, in a real browser: each step waits for what a person would wait for."""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path

import httpx2 as httpx
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect, sync_playwright
from served import wait_for

from isthmus.data.conversations.schema import parse_conversation

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium on this machine (apt install chromium)"),
]
NOTE = "#isthmus-chat .isthmus-note"
PLAYED = """async medium => {
    medium.muted = true;
    await medium.play();
    await new Promise(done => medium.addEventListener("timeupdate", done, {once: true}));
    return medium.currentTime;
}"""

SETTLED = """() => document.getAnimations().every(
    each => each.playState !== "running" || each.effect.getComputedTiming().iterations === Infinity
)"""


@pytest.fixture
def asked() -> list[str]:
    """Addresses that the browser asked for."""
    return []


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        options = ["--no-sandbox"]  # in a container there is none; the page is our own
        yield playwright.chromium.launch(executable_path=CHROMIUM, args=options)


@pytest.fixture
def page(paged: str, browser: Browser, asked: list[str]) -> Iterator[Page]:
    """The app in a browser, as at a first visit."""
    page = browser.new_page(viewport={"width": 390, "height": 844})
    page.set_default_timeout(120_000)
    expect.set_options(timeout=120_000)
    page.on("request", lambda request: asked.append(request.url))
    page.goto(paged)
    page.wait_for_function("() => document.title")  # its script has built it
    expect(page.locator("#isthmus-box textarea")).to_be_visible()
    yield page
    page.close()


def decoding(page: Page) -> int:
    """Jobs in the engine."""
    lines = httpx.get(f"{page.url.rstrip('/')}/metrics").text.splitlines()
    return round(sum(float(line.split()[-1]) for line in lines if line.startswith("isthmus_jobs{")))


def begin_a_story(page: Page) -> None:
    """Asks for an answer in words that is long enough to be stopped; the settings are open."""
    page.get_by_label("text alone").check()
    number = page.get_by_label("number input for Longest answer, tokens")
    number.fill("400")
    number.press("Tab")
    expect(page.get_by_label("range slider for Longest answer, tokens")).to_have_value("400")
    page.locator("#isthmus-box textarea").fill("tell a story")
    page.locator("#isthmus-box textarea").press("Enter")
    expect(page.locator("#isthmus-status")).to_contain_text("Writing")


def serious(page: Page) -> list[str]:
    """What axe finds that keeps people out, once colours no longer fade into each other."""
    page.wait_for_function(SETTLED)
    found = Axe().run(page).response["violations"]
    return [
        f"{each['id']}: {[node['html'][:200] for node in each['nodes']]}"
        for each in found
        if each["impact"] in ("serious", "critical")
    ]


def test_a_person_talks_to_the_model(page: Page, asked: list[str], files: dict[str, Path], tmp_path: Path) -> None:
    assert not serious(page)
    page.get_by_text("Settings", exact=True).click()
    page.get_by_label("recording", exact=True).check()
    page.get_by_label("image", exact=True).check()
    page.get_by_label("Steps of generators").fill("2")
    page.locator("#isthmus-box input[type=file]").set_input_files(files["image"])
    page.locator("#isthmus-box textarea").fill("play its digit and draw it")
    expect(page.locator("#isthmus-box .thumbnails, #isthmus-box [class*=thumbnail]").first).to_be_visible()
    page.locator("#isthmus-box textarea").press("Enter")
    expect(page.locator(NOTE)).to_contain_text("seed 0")

    pictures = page.locator("#isthmus-chat img.isthmus-picture")
    expect(pictures).to_have_count(2)
    assert all(picture.evaluate("each => each.complete && each.naturalWidth > 0") for picture in pictures.all())
    assert page.locator("#isthmus-chat audio").evaluate(PLAYED) > 0
    assert not serious(page)

    # The question is edited: its picture stays, and it is answered anew.
    page.get_by_label("recording", exact=True).uncheck()
    page.locator("#isthmus-chat").get_by_label("Edit").locator("visible=true").click()
    page.locator("#isthmus-chat textarea").fill("draw it")
    page.locator("#isthmus-chat").get_by_label("Submit").click()
    expect(page.locator("#isthmus-chat audio")).to_have_count(0)
    expect(page.locator(NOTE)).to_contain_text("seed 0")
    expect(pictures).to_have_count(2)
    expect(page.locator("#isthmus-chat")).to_contain_text("draw it")

    # A file that the model doesn't take is refused in words, and nothing else changes.
    notes = {"name": "notes.txt", "mimeType": "text/plain", "buffer": b"hello"}
    page.locator("#isthmus-box input[type=file]").set_input_files(notes)
    expect(page.locator("#isthmus-box [class*=thumbnail]").first).to_be_visible()
    page.locator("#isthmus-box textarea").press("Enter")
    expect(page.get_by_text("notes.txt: this model takes files that end in")).to_be_visible()
    expect(page.locator("#isthmus-box [class*=thumbnail]")).to_have_count(0)
    expect(pictures).to_have_count(2)

    # A long answer is stopped: what was written stays, and the engine is free.
    page.get_by_label("image", exact=True).uncheck()
    begin_a_story(page)
    page.locator("#isthmus-stop").click()
    expect(page.locator(NOTE).last).to_have_text("Stopped.")
    wait_for(lambda: decoding(page) == 0)

    page.locator("#isthmus-toggle").click()
    expect(page.locator("body")).to_have_class("dark")
    assert not serious(page)
    page.get_by_text("Conversation", exact=True).last.click()
    with page.expect_download() as saved:
        page.get_by_text("Save the conversation").click()
    with zipfile.ZipFile(saved.value.path()) as archive:
        kept = json.loads(archive.read("conversation.json"))
        named = [item[item["type"]] for turn in kept["messages"] for item in turn["content"] if item["type"] != "text"]
        assert len(named) == 2 and set(named) < set(archive.namelist())
        archive.extractall(tmp_path)
    assert parse_conversation(kept, "saved", tmp_path, captions_required=False).messages[0].role == "user"

    page.locator("#isthmus-new").click()
    expect(page.locator(NOTE)).to_have_count(0)

    # Another model is chosen: what it makes, the examples and the page about it follow.
    expect(page.get_by_text("draw a red seven")).to_be_visible()
    page.locator("#isthmus-model input").click()
    page.get_by_role("option", name="words").click()
    expect(page.locator("h1")).to_have_text("words")
    expect(page.get_by_label("image", exact=True)).to_have_count(0)
    expect(page.get_by_text("draw a red seven")).to_have_count(0)
    page.locator("#isthmus-box textarea").fill("hello")
    page.locator("#isthmus-box textarea").press("Enter")
    expect(page.locator(NOTE)).to_contain_text("model words")
    assert not serious(page)
    page.get_by_role("tab", name="Model").click()
    expect(page.locator(".isthmus-about dd").first).to_have_text("words")
    page.get_by_role("tab", name="Results").click()
    expect(page.get_by_text("Neither a matrix nor a gallery")).to_be_visible()
    own = page.url.split("/")[2]
    assert {url.split("/")[2] for url in asked if url.startswith("http")} == {own}, "nothing is from a network"


def test_a_page_that_is_closed_frees_its_slot(page: Page) -> None:
    address = page.url
    figures = lambda name: [line for line in httpx.get(f"{address}metrics").text.splitlines() if name in line]  # noqa: E731
    tokens = figures('isthmus_tokens_total{kind="answer"}')
    page.get_by_text("Settings", exact=True).click()
    begin_a_story(page)
    page.goto("about:blank")
    wait_for(lambda: figures('isthmus_jobs{state="decoding"}') == ['isthmus_jobs{state="decoding"} 0.0'])
    assert figures('isthmus_tokens_total{kind="answer"}') == tokens, "it was given up: whole answers are counted"
