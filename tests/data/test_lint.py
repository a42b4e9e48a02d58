"""Lint counts what is there, and tells each fault by file and line, once, with what it would do to training."""

from __future__ import annotations

import json
import struct
import zlib
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import soundfile
from PIL import Image

from isthmus.data.conversations.preferences import PreferenceLines
from isthmus.data.conversations.schema import Conversation, MediumItem
from isthmus.data.conversations.sources import JsonLines
from isthmus.data.lint import Linter, Severity, lint_all
from isthmus.data.media.files import read_media
from isthmus.data.media.remarks import Remark, remark
from isthmus.modalities import Modality


def asked(*content: dict[str, Any] | str, answer: Any = "yes") -> dict[str, Any]:
    items = [{"type": "text", "text": item} if isinstance(item, str) else item for item in content]
    return {"messages": [{"role": "user", "content": items}, {"role": "assistant", "content": answer}]}


def shown(kind: str, name: str) -> dict[str, Any]:
    return {"type": kind, kind: name}


def lines(folder: Path, *records: Any, name: str = "set") -> JsonLines:
    path = folder / f"{name}.jsonl"
    texts = [record if isinstance(record, str) else json.dumps(record) for record in records]
    path.write_text("".join(text + "\n" for text in texts), encoding="utf-8")
    return JsonLines(path)


def bomb() -> bytes:
    """A PNG of 100 megapixels that is 60 bytes long."""
    header = struct.pack(">IIBBBBB", 10_000, 10_000, 8, 0, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(b"\0" * 9)), (b"IEND", b"")]
    body = b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + body


def hour(path: Path) -> None:
    """A video of 3,600 seconds in four frames."""
    with av.open(str(path), "w") as opened:
        stream: Any = opened.add_stream("libx264", rate=1)
        stream.height = stream.width = 16
        stream.pix_fmt = "yuv420p"
        for k in range(4):
            frame = av.VideoFrame.from_ndarray(np.zeros((16, 16, 3), np.uint8), format="rgb24")
            frame.pts = 1200 * k
            opened.mux(stream.encode(frame))
        opened.mux(stream.encode())


def test_counts_and_lengths(tmp_path: Path) -> None:
    for k, size in enumerate((4, 6, 8)):
        Image.fromarray(np.full((size, size, 3), k, np.uint8)).save(tmp_path / f"{k}.png")
    soundfile.write(tmp_path / "1.wav", np.zeros(4000), 8000)
    source = lines(
        tmp_path,
        *(asked(shown("image", f"{k}.png"), "who?") for k in range(3)),
        asked(shown("audio", "1.wav"), answer=[{"type": "image", "caption": "a cat", "image": "0.png"}]),
    )
    report = Linter().lint(source)
    assert (report.size, report.read, report.usable) == (4, 4, 4)
    assert report.kinds == {
        "turns": 8, "text given": 3, "text made": 3, "image given": 3, "image made": 1, "audio given": 1,
    }  # fmt: skip
    spread = report.spread()
    assert spread["image pixels"] == (16, 26, 64) and spread["audio seconds"] == (0.5, 0.5, 0.5)
    assert spread["text characters"] == (3, 3.5, 4)
    # 0.png stands in two conversations.
    assert report.findings["duplicate medium"].count == 1


def test_every_bad_input_is_counted_and_told_with_file_and_line(tmp_path: Path) -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)).save(tmp_path / "good.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "good.png").read_bytes()[:900])
    (tmp_path / "bomb.png").write_bytes(bomb())
    soundfile.write(tmp_path / "hour.wav", np.zeros(3600 * 8), 8)
    np.save(tmp_path / "nan.npy", np.array([[0, 0, np.nan]], np.float32))
    good = asked(shown("image", "good.png"))
    records = [
        (good, None),
        (asked(shown("image", "cut.png")), "corrupt"),
        (asked(shown("image", "bomb.png")), "limit"),
        (asked(shown("audio", "hour.wav")), "limit"),
        (asked(shown("points", "nan.npy")), "corrupt"),
        (json.dumps(good)[:40], "schema"),
        (asked(shown("image", "../set.jsonl")), "path"),
        (asked(shown("image", "absent.png")), "path"),
        (asked("draw", answer=[{"type": "image", "caption": ""}]), "schema"),
        (asked("x" * 100_000), "long text"),
        (asked("who?", answer=" "), "no target"),
        ({"messages": [{"role": "user", "content": "who?"}]}, "only a prompt"),
        (good, "duplicate conversation"),
    ]
    source = lines(tmp_path, *(record for record, _ in records))
    report = Linter().lint(source)
    told = {(kind, text) for kind, found in report.findings.items() for text in found.examples}
    for number, (_, kind) in enumerate(records, start=1):
        if kind is not None:
            start = f"{source.path}:{number}: "
            assert [text for found, text in told if found == kind and text.startswith(start)], (number, kind, told)
    assert (report.read, report.usable) == (13, 4)
    assert report.count(Severity.ERROR) == 9
    assert report.count(Severity.WARNING) == 4  # the long text; the prompt; the last line's conversation and its image
    assert report.as_dict()["findings"]["limit"] == {
        "severity": "error", "count": 2, "examples": report.findings["limit"].examples,
    }  # fmt: skip


def test_a_film_of_any_length_is_measured_by_some_of_its_frames(tmp_path: Path) -> None:
    hour(tmp_path / "hour.mp4")
    report = Linter().lint(lines(tmp_path, asked(shown("video", "hour.mp4"))))
    assert report.usable == 1 and not report.count(Severity.ERROR)
    (_, seconds, _), (_, frames, _) = (report.spread()[f"video {name}"] for name in ("seconds", "frames"))
    assert (seconds, frames) == (3601, 4)
    assert report.findings["slow video"].count == 1


def test_duplicates_are_found_by_content_and_across_sets(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes((tmp_path / "a.png").read_bytes())
    train = lines(tmp_path, asked(shown("image", "a.png"), "who?"), name="train")
    test = lines(tmp_path, asked(shown("image", "b.png"), "what?"), name="test")
    reports = lint_all({"train": train, "test": test}, Linter())
    assert not reports["train"].findings
    (example,) = reports["test"].findings["duplicate medium"].examples
    assert example == f"{test.path}:1: {tmp_path / 'b.png'} is the same as at {train.path}:1"


def test_a_sample_and_a_quick_look(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"nothing")
    source = lines(tmp_path, *(asked(shown("image", "a.png"), str(k)) for k in range(50)))
    assert Linter().lint(source, sample=10).count(Severity.ERROR) == 10
    report = Linter(decode=False).lint(source)
    assert report.usable == 50 and not report.findings


@pytest.mark.parametrize("sample", [None, 3])
def test_progress_sees_every_index(tmp_path: Path, sample: int | None) -> None:
    source = lines(tmp_path, *(asked(str(k)) for k in range(7)))
    seen: list[int] = []
    Linter().lint(source, sample, lambda indices: (seen.append(i) or i for i in indices))  # type: ignore[func-returns-value]
    assert len(seen) == (sample or 7) and seen == sorted(set(seen))


def test_pairs_are_looked_at_on_both_sides(tmp_path: Path) -> None:
    """What makes two pairs the same, and what is broken, may stand in the rejected answer alone."""
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "a.png").read_bytes()[:40])
    turns = [{"role": "user", "content": "draw a cat"}]
    rejected: list[Any] = [
        "no",
        "never",
        [{"type": "image", "caption": "a dog", "image": "cut.png"}],
        "a cat",
        " ",
        "no",
    ]
    path = tmp_path / "pairs.jsonl"
    pairs = [{"messages": turns, "chosen": "a cat", "rejected": answer} for answer in rejected]
    path.write_text("".join(json.dumps(pair) + "\n" for pair in pairs), encoding="utf-8")
    report = Linter().lint(PreferenceLines(path))
    assert (report.read, report.usable) == (6, 3) and report.kinds["text made"] == 6
    told = {kind: found.examples for kind, found in report.findings.items()}
    assert set(told) == {"corrupt", "equal pair", "schema", "duplicate conversation"}
    assert told["corrupt"][0].startswith(f"{path}:3: ") and "cut.png" in told["corrupt"][0]
    assert told["equal pair"][0].startswith(f"{path}:4: chosen and rejected: found the same answer twice")
    assert told["schema"][0].startswith(f"{path}:5: rejected: found neither text nor media")
    assert told["duplicate conversation"] == [f"{path}:6: the same as at {path}:1"]


def test_remarks_of_what_prepares_are_told_once(tmp_path: Path) -> None:
    def prepare(conversation: Conversation) -> None:
        remark(Remark.TOOLS, "conversation", "found tools that the chat template leaves out")
        (media,) = [item.media for item in conversation.messages[0].content if isinstance(item, MediumItem)]
        read_media(media, Modality.AUDIO)

    soundfile.write(tmp_path / "a.wav", np.full(8000, 3.0, np.float32), 16_000, subtype="FLOAT")
    asked = {"role": "user", "content": [{"type": "audio", "audio": "a.wav"}]}
    (tmp_path / "a.jsonl").write_text(json.dumps({"messages": [asked, {"role": "assistant", "content": "a cloud"}]}))
    found = Linter(prepare=prepare).lint(JsonLines(tmp_path / "a.jsonl")).findings
    (tools,) = found["tools left out"].examples
    assert tools == f"{tmp_path / 'a.jsonl'}:1: conversation: found tools that the chat template leaves out"
    assert found["loud audio"].count == 1


def test_marks_without_media_and_greetings_are_told(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    source = lines(
        tmp_path,
        asked("<image>\nwho? <video>"),
        asked(shown("image", "a.png"), "what does <image> mean?"),
        asked("what is HTML?", answer="<video></video>"),
        {"messages": [{"role": "assistant", "content": "hello"}, {"role": "user", "content": "who?"}]},
    )
    report = Linter().lint(source)
    (told,) = report.findings["mark without a medium"].examples
    assert told == f"{source.path}:1: found <image>, <video> in a text, and no such medium: it is text"
    assert report.findings["no target"].count == 1 and report.usable == 3


def test_what_is_likely_not_meant_is_told_and_ranges_are_measured(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.zeros((9, 7, 3), np.uint8)).save(tmp_path / "turned.png", exif=exif)
    Image.new("RGBA", (4, 4)).save(tmp_path / "clear.png")
    wave = np.ones(160, np.float32) / 2
    soundfile.write(tmp_path / "short.wav", np.stack([wave, -wave], axis=1), 16000)
    soundfile.write(tmp_path / "loud.wav", np.linspace(-8, 8, 16000), 16000, subtype="FLOAT")
    np.save(tmp_path / "one.npy", np.zeros((1, 3), np.float32))
    np.save(tmp_path / "coloured.npy", np.random.default_rng(0).random((9, 6)))
    source = lines(
        tmp_path,
        asked("What is on the Left?", shown("image", "turned.png")),
        asked("What is it?", shown("image", "turned.png")),
        asked("on the left", shown("image", "clear.png")),
        asked(shown("audio", "short.wav")),
        asked(shown("audio", "loud.wav")),
        asked(shown("points", "one.npy")),
        asked(shown("points", "coloured.npy")),
    )
    report = Linter().lint(source)
    found = {kind: finding.examples for kind, finding in report.findings.items() if kind != "duplicate medium"}
    assert {kind: len(examples) for kind, examples in found.items()} == {
        **{"turned picture": 1, "tiny medium": 2, "opposite channels": 1, "loud audio": 1, "uneven colours": 1}
    }
    assert (
        "turned.png: found EXIF orientation 6" in found["turned picture"][0] and "'Left'" in found["turned picture"][0]
    )
    assert "10 ms" in found["tiny medium"][0] and "a cloud of 1 points" in found["tiny medium"][1]
    assert "reach to 8" in found["loud audio"][0] and "with colours" in found["uneven colours"][0]
    assert report.kinds["image with transparency"] == 1 and report.kinds["points with colours"] == 1
    assert report.usable == 7 and report.count(Severity.ERROR) == 0
    assert report.spread()["audio peak"] == (0.0, 0.5, 1.0) and report.spread()["image brightness"][2] == 255
