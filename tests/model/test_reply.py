"""An answer's pieces, in order; in a notebook, and as files."""

from __future__ import annotations

import json
import re
from pathlib import Path

from model.talks import medium

from isthmus.model import Reply
from isthmus.types import Modality


def test_pieces_keep_their_order_and_kind() -> None:
    first, tone, second = medium("image", 1), medium("audio", 2), medium("image", 3)
    reply = Reply([" here: ", first, "and", tone, " ", second, "done. "])
    assert reply.text == "here: and done."
    assert reply.media() == [first, tone, second]
    assert reply.media(Modality.IMAGE) == [first, second] and reply.media(Modality.VIDEO) == []
    assert (reply.forced, reply.ended, reply.tokens) == ([], "end", 0)


def test_an_empty_answer_is_no_text_and_no_media() -> None:
    assert Reply().text == "" and Reply().media() == [] and Reply([medium("points", 1)]).text == ""
    one, other = Reply(), Reply()
    one.content.append("mine")
    assert other.content == []


def reply_of_every_kind() -> Reply:
    media = [medium(name, index) for index, name in enumerate(("image", "video", "audio", "points"))]
    return Reply(["here: ", *media], [Modality.AUDIO], "length", 9, [1, 2], 3)


def test_a_notebook_shows_every_piece_within_itself() -> None:
    page = reply_of_every_kind()._repr_html_()
    assert "<p>here:</p>" in page and page.count("<audio controls") == 1 and page.count("data-points=") == 1
    sources = re.findall(r'src="([^":]+:[^;"]+)', page)
    assert sources == ["data:image/png", "data:image/webp", "data:image/png", "data:audio/wav"]
    assert not re.search(r"https?:|@import|url\(|fetch|XMLHttpRequest", page), "nothing is fetched"
    assert page.count("<script>") == 1 and "requestAnimationFrame" in page, "a cloud turns"
    for note in ("The audio was required", "cut off at its limit", "3 messages at the beginning weren&#39;t read"):
        assert note in page
    assert "<script>" not in Reply(["words"])._repr_html_(), "only clouds need one"


def test_what_a_model_says_never_becomes_markup() -> None:
    evil = "</p><script>alert('x')</script><img src=x onerror=alert(1)>"
    page = Reply([evil])._repr_html_()
    assert "alert" in page and "<script" not in page and "<img" not in page and "</div>" in page


def test_scripts_of_several_replies_stand_in_one_page() -> None:
    """A name at the top level of two scripts would be an error of the second."""
    scripts = re.findall(r"<script>(.*?)</script>", reply_of_every_kind()._repr_html_(), re.DOTALL)
    assert len(scripts) == 1
    outside = re.sub(r"\(\(\) => \{.*\}\)\(\);", "", scripts[0], flags=re.DOTALL)
    assert [line for line in outside.splitlines() if line.strip() and not line.startswith("//")] == []
    assert "canvas[data-points]:not([data-drawn])" in scripts[0]


def test_a_reply_is_saved_as_files_and_nothing_is_overwritten(tmp_path: Path) -> None:
    first, second = reply_of_every_kind().save(tmp_path / "out"), reply_of_every_kind().save(str(tmp_path / "out"))
    assert [path.suffix for path in first] == [".png", ".mp4", ".wav", ".npy"] and not set(first) & set(second)
    record = json.loads((tmp_path / "out" / "reply.json").read_text(encoding="utf-8"))
    assert record["content"][0] == {"type": "text", "text": "here: "}
    assert record["content"][1] == {"type": "image", "image": second[0].name}
    assert {name: record[name] for name in ("forced", "ended", "tokens", "left_out")} == {
        "forced": ["audio"],
        "ended": "length",
        "tokens": 9,
        "left_out": 3,
    }
    assert (tmp_path / "out" / "reply-001.json").is_file() and all(path.is_file() for path in first + second)
