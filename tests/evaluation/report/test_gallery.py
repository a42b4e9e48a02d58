"""The gallery: every medium inside one file, nothing to fetch, and no text that becomes markup."""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from collections import Counter
from hashlib import sha256
from html.parser import HTMLParser
from pathlib import Path

import pytest
from drawn_answers import VALUES, drawn_replies, pocket_judges

from isthmus.data.conversations.schema import MediumItem, Message, TextItem
from isthmus.evaluation import Measurement
from isthmus.evaluation.matrix.measurement import JudgedReply
from isthmus.evaluation.matrix.scoring import Expectation, Verdict
from isthmus.evaluation.report.gallery import write_gallery
from isthmus.model import Reply
from isthmus.pocket.cells import MatrixCells
from isthmus.pocket.world import Concept
from isthmus.types import Media, Modality

SOURCE = MatrixCells(per_cell=2)
CONCEPT = Concept(4, "cyan", "left")
EVIL = "</p><script>alert('x')</script><img src=x onerror=alert(1)> & \"quoted\""


class Page(HTMLParser):
    """The elements of a page, with what stands in scripts, styles and paragraphs."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.texts: Counter[str] = Counter()
        self.inside: dict[str, str] = {}
        self.open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open.pop() == tag, f"</{tag}> closes nothing"

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("script", "style"):
            self.inside[self.open[-1]] = self.inside.get(self.open[-1], "") + data
        elif data.strip():
            self.texts[data.strip()] += 1

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="module")
def measurement(repository: Path) -> Measurement:
    measured = Measurement(pocket_judges(repository), VALUES, samples=2)
    batch, replies = drawn_replies(SOURCE, range(len(SOURCE)), {4: "missing", 9: "extra", 20: "digit"})
    measured.add(None, batch, replies, lambda row: SOURCE[row].messages)  # type: ignore[arg-type] # only text-only prompts ask it
    return measured


@pytest.fixture(scope="module")
def written(measurement: Measurement, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = write_gallery(tmp_path_factory.mktemp("gallery") / "gallery.html", measurement.samples, measurement.matrix())
    return path.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(written: str) -> Page:
    return Page(written)


def evil_page(measurement: Measurement, path: Path) -> str:
    expectation = Expectation("matrix", "text->text", Modality.TEXT, {"digit": EVIL})
    verdict = Verdict(expectation, {"digit": EVIL + "!"}, True, False)
    message = Message("user", (TextItem(EVIL), MediumItem(Modality.IMAGE, None, EVIL)))
    sample = JudgedReply(verdict, Reply([EVIL]), [message])
    return write_gallery(path, [sample], measurement.matrix()).read_text(encoding="utf-8")


def test_every_medium_is_embedded(page: Page, measurement: Measurement) -> None:
    media: Counter[str] = Counter()
    for sample in measurement.samples:
        given = [item.media for message in sample.messages for item in message.content if isinstance(item, MediumItem)]
        media.update(medium.modality for medium in [*given, *sample.reply.media()] if isinstance(medium, Media))
    assert min(media[modality] for modality in ("image", "video", "audio", "points")) >= 8
    kinds = Counter(image["src"].split(";")[0] for image in page.all("img"))
    # A sound has a picture of its spectrum beside it.
    assert kinds == {"data:image/png": media["image"] + media["audio"], "data:image/webp": media["video"]}
    assert len(page.all("audio")) == media["audio"]
    assert all("controls" in audio and audio["src"].startswith("data:audio/wav;") for audio in page.all("audio"))
    assert [len(b64decode(canvas["data-points"])) for canvas in page.all("canvas")] == [384 * 6] * media["points"]


def test_nothing_is_fetched_and_only_the_pages_own_script_runs(page: Page, written: str) -> None:
    assert not re.search(r"https?:|//cdn|@import|url\(", written)
    for tag, attributes in page.elements:
        assert not [name for name in attributes if name.startswith("on")], tag
        assert "style" not in attributes
        for name in ("src", "href"):
            assert attributes.get(name, "#").startswith(("#", "data:"))
    assert not page.all("link") and not page.all("iframe") and len(page.all("script")) == len(page.all("style")) == 1
    (policy,) = [meta["content"] for meta in page.all("meta") if meta.get("http-equiv") == "Content-Security-Policy"]
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'" and "unsafe" not in policy
    for tag, rule in (("script", "script-src"), ("style", "style-src")):
        digest = b64encode(sha256(page.inside[tag].encode()).digest()).decode()
        assert rules[rule] == f"'sha256-{digest}'"


def test_the_page_is_well_formed_and_cells_lead_to_their_conversations(page: Page, measurement: Measurement) -> None:
    assert page.open == []
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    links = [link["href"][1:] for link in page.all("a")]
    assert len(ids) == len(set(ids)) == 28 and set(links) == set(ids)
    assert len(page.all("article")) == len(measurement.samples)
    wrong = [article for article in page.all("article") if article["class"] == "wrong"]
    assert len(wrong) == 2


def test_conversations_stand_with_their_verdict(page: Page, measurement: Measurement) -> None:
    for sample in measurement.samples:
        for message in sample.messages:
            for item in message.content:
                assert not isinstance(item, TextItem) or not item.text.strip() or page.texts[item.text.strip()]
        assert not sample.reply.text or page.texts[sample.reply.text]
    chips = [text for text in page.texts if text.startswith(("✓", "✗"))]
    assert any(re.fullmatch(r"✓ colour \w+", chip) for chip in chips)
    assert any(re.fullmatch(r"✗ digit \d, read \d", chip) for chip in chips)
    assert "✗ no video given" in chips and any(chip.endswith("read nothing") for chip in chips)


def test_text_never_becomes_markup(measurement: Measurement, tmp_path: Path) -> None:
    written = evil_page(measurement, tmp_path / "gallery.html")
    page = Page(written)
    assert "<script>alert" not in written and len(page.all("script")) == 1 and not page.all("img")
    assert page.texts[EVIL] == 2 and page.texts[f"(image: {EVIL})"] == 1
    assert page.texts[f"✗ digit {EVIL}, read {EVIL}!"] == 1


def test_unmeasured_cells_and_an_empty_reply_are_shown_as_such(repository: Path, tmp_path: Path) -> None:
    source = MatrixCells(per_cell=1, inputs=[Modality.IMAGE], outputs=[Modality.TEXT], arithmetic=False)
    measured = Measurement(pocket_judges(repository), VALUES, samples=1)
    measured.add(None, *drawn_replies(source, range(1), {0: "missing"}))  # type: ignore[arg-type]
    page = Page(write_gallery(tmp_path / "g.html", measured.samples, measured.matrix()).read_text(encoding="utf-8"))
    assert page.texts["n/a"] == 4 and page.texts["(nothing)"] == 1
    assert page.texts["✗ no text given"] == 1
