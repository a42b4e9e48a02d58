"""An evaluation's report: figures, protocol and answers, in one file without a network, and as Markdown."""

from __future__ import annotations

import re
from base64 import b64decode
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from evaluations import RUN, write_evaluation
from PIL import Image

from isthmus.data.conversations.schema import MediumItem, Message, TextItem
from isthmus.data.media.files import save_media
from isthmus.evaluation.comparing.stored import read_result
from isthmus.evaluation.predictions.answered import Answered
from isthmus.evaluation.report.chosen import SourceAnswers, chosen
from isthmus.evaluation.report.evaluation_report import write_evaluation_report
from isthmus.evaluation.report.pages import FRAMES, piece
from isthmus.types import Media, Modality

EVIL = "<script>alert('x')</script> `|` [a](b) *c*"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    scores = {"coco/text/exact": [1.0, 0.0, 1.0, 0.0, 0.5]}
    whole = {"coco/image/fid": {"value": 9, "n": 5, "better": "lower", "interval": [8, 10], "protocol": {"of": EVIL}}}
    return write_evaluation(tmp_path / "a & b", scores, whole, {**RUN, "weights": "w0"})


def answers(folder: Path) -> SourceAnswers:
    """Of five conversations; the first has media on all three sides."""
    rng = np.random.default_rng(0)
    image = Media(Modality.IMAGE, rng.integers(0, 255, (8, 8, 3), dtype=np.uint8))
    made = folder / "predictions" / "made here.png"
    made.parent.mkdir(exist_ok=True)
    image.modality.spec.write_exactly(image, made)

    def read(place: int) -> Answered:
        words = (TextItem(f"{EVIL} {place}"),)
        media = (MediumItem(Modality.IMAGE, image),) if place == 0 else ()
        prompt = [Message("user", (*media, *words))]
        expected = Message("assistant", (*words, MediumItem(Modality.IMAGE, None, EVIL)))
        files = ((Modality.IMAGE, made),) if place == 0 else ()
        text = "" if place == 1 else EVIL
        return Answered("coco", place, f"coco/{place}", prompt, expected, {}, text, files)

    return SourceAnswers([f"coco/{place}" for place in range(5)], read)


def test_a_random_choice_and_the_best_and_worst_are_shown(folder: Path) -> None:
    figures = read_result(folder / "metrics.json").figures
    drawn, best, worst = chosen("coco", answers(folder), figures, 2)
    assert [own.index for own, _ in best.samples] == [0, 2] and best.title == "best by text/exact"
    assert [own.index for own, _ in worst.samples] == [3, 1]
    again = chosen("coco", answers(folder), figures, 2)[0]
    assert [own.id for own, _ in drawn.samples] == [own.id for own, _ in again.samples] and len(drawn.samples) == 2
    assert best.samples[0][1] == {"text/exact": 1.0}
    assert [group.title for group in chosen("clotho", answers(folder), figures, 2)] == ["drawn at random"]


def test_the_page_is_whole_and_no_text_becomes_markup(folder: Path) -> None:
    page, _ = write_evaluation_report(folder, {"coco": answers(folder)}, 5)
    written = page.read_text(encoding="utf-8")
    assert not re.search(r"https?:|//cdn|@import|url\(", written) and written.count("<script>") == 1
    assert "<script>alert" not in written and "&lt;script&gt;alert" in written and "default-src &#39;none" in written
    assert "Evaluation of a &amp; b" in written and "8 to 10" in written and "image/fid ↓" in written
    # An image on the prompt's side and one on the answer's, in the random choice and among the best.
    assert written.count("data:image/png") == 4
    assert "(nothing)" in written and ">reference<" in written and "weights" in written and "text/exact 0.5" in written


def test_markdown_names_media_by_their_files(folder: Path) -> None:
    _, text = write_evaluation_report(folder, {"coco": answers(folder)}, 5)
    written = text.read_text(encoding="utf-8")
    assert "| text/exact ↑ | 0.5 |  | 5 |" in written and "| image/fid ↓ | 9 | 8 to 10 | 5 |" in written
    assert "[image](predictions/made%20here.png)" in written and (folder / "predictions/made here.png").is_file()
    assert "<script" not in written and "&lt;script&gt;" in written and "\\`\\|\\` \\[a\\](b) \\*c\\*" in written
    assert "- weights: w0" in written and "- answer: (nothing)" in written


def test_a_long_film_is_shown_by_frames_spread_over_it(tmp_path: Path) -> None:
    """The film has more frames than the limits allow to be decoded."""
    frames = (np.arange(4800) // 20).astype(np.uint8).repeat(16 * 16 * 3).reshape(-1, 16, 16, 3)
    path = save_media(Media(Modality.VIDEO, frames, 50.0), tmp_path / "film.mkv")
    shown = Image.open(BytesIO(b64decode(piece(MediumItem(Modality.VIDEO, path))["uri"].partition(",")[2])))
    lasts = []
    for frame in range(shown.n_frames):
        shown.seek(frame)
        shown.load()
        lasts.append(shown.info["duration"])
    assert shown.n_frames == FRAMES and sum(lasts) == pytest.approx(96_000, rel=0.02)


def test_a_medium_that_cant_be_read_is_a_text(tmp_path: Path) -> None:
    (tmp_path / "film.mp4").write_bytes(b"no film")
    for path in (tmp_path / "film.mp4", tmp_path / "absent.mp4"):
        shown = piece(MediumItem(Modality.VIDEO, path))
        assert shown["kind"] == "text" and "video: it can't be shown" in shown["text"] and path.name in shown["text"]
