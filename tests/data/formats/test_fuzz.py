"""Ten thousand damaged files, spread over all readers: each is read, or refused by an error that is worded."""

from __future__ import annotations

import gc
import gzip
import io
import json
import random
import resource
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import trimesh
from data.formats.tables import blip3o, onevision, picture, saved
from PIL import Image

from isthmus.data import formats
from isthmus.data.conversations.sources import ConversationSource, JsonLines
from isthmus.data.formats import CaptionTable, ManifestSource
from isthmus.data.media.files import read_media, save_media
from isthmus.data.media.limits import MediaLimits
from isthmus.types import Media, Modality

CASES = 10_000
SECONDS_EACH = 2.0
MEMORY = 256 << 20

HUMAN, GPT = {"from": "human", "value": "<image>é?"}, {"from": "gpt", "value": 'a "cat"'}
CHAT = [{"image": "1.png", "conversations": [HUMAN, GPT]}, {"conversations": [{"from": "user", "value": "hi"}, GPT]}]
LISTS = {
    "image_list": [{"image_name": "1.png", "caption": "a"}],
    "conversation": [
        {"from": "human", "value": "<Image>1.png</Image>"},
        {"from": "gpt", "value": "<Image>1.png</Image>"},
    ],
}
TEXTS: dict[str, tuple[Callable[[Path], ConversationSource], str]] = {
    "pairs": (
        formats.NextGPTPairs,
        json.dumps([{"image_name": "1.png", "caption": "a ü"}, CHAT[0] | {"input_image": "1.png"}]),
    ),
    "instructions": (
        formats.NextGPTInstructions,
        json.dumps([LISTS, {"mm_name": "1.png", "conversation": [HUMAN, GPT]}]),
    ),
    "llava": (formats.Llava, json.dumps(CHAT, indent=1)),
    "videochat": (formats.VideoChat, json.dumps([{"image": "1.png", "QA": [{"i": "x", "q": "y", "a": "z"}]}])),
    "alpaca": (
        formats.Alpaca,
        json.dumps([{"instruction": "a", "input": "b", "output": "c", "history": [["d", "e"]]}]),
    ),
    "sharegpt": (
        formats.ShareGPT,
        json.dumps({"messages": [{"role": "user", "content": "<image>"}], "images": ["1.png"]}),
    ),
    "mmc4": (
        formats.MMC4,
        json.dumps({"text_list": ["a", "b"], "image_info": [{"image_name": "1.png", "matched_text_index": 1}]}),
    ),
    "obelics": (formats.Obelics, json.dumps({"images": ["1.png", None], "texts": [None, "a"]})),
    "manifest": (
        ManifestSource,
        json.dumps({"modality": "points", "path": "c.npz", "row": 1, "caption": "a", "split": "b"}),
    ),
    "strokes": (ManifestSource, json.dumps({"modality": "video", "path": "s.jsonl", "row": 0, "caption": "a"})),
    "own": (JsonLines, json.dumps({"messages": [{"role": "user", "content": [{"type": "image", "image": "1.png"}]}]})),
    "cc3m": (formats.CC3M, 'a cat\thttp://x\nb "dog\thttp://y\n'),
    "webvid": (formats.WebVid, 'videoid,name,page_dir\n1,"a, b",c\n2,d,e\n'),
    "audiocaps": (formats.AudioCaps, 'audiocap_id,caption\n1,"a ""b"""\n'),
    "cap3d": (formats.Cap3D, "1,a chair\n"),
    "table": (lambda path: CaptionTable(path, Modality.IMAGE, "{f}"), "f,caption\n1.png,a\n"),
}
PIECES = [b"\0", b"\xff", b"\xe9", b'"', b"[", b"]", b"{", b"}", b",", b"\n", b"\t", b"null", b"-1", b"1e999", b"NaN"]
PIECES += [b"../", b"<image>", b"\\ud800", b"[" * 2000, b"9" * 5000, b"x" * 100_000, "ü".encode("utf-16")]


def damaged(data: bytes, draw: random.Random) -> bytes:
    for _ in range(draw.randint(1, 4)):
        at, length = draw.randint(0, len(data)), draw.randint(0, 8)
        match draw.randrange(6):
            case 0:
                data = data[:at] + draw.choice(PIECES) + data[at:]
            case 1:
                data = data[:at] + data[at + length :]
            case 2:
                data = data[:at]
            case 3:
                data = data[:at] + draw.randbytes(length) + data[at + length :]
            case 4:
                data = data[:at] + data[max(0, at - 20) : at] + data[at:]
            case _:
                data = data.decode("utf-8", "replace").encode(draw.choice(["latin-1", "utf-16", "utf-8"]), "replace")
    return data


def packed_sets(folder: Path) -> dict[str, tuple[Callable[[Path], ConversationSource], bytes]]:
    """Sets that are no text: tables, archives, and what is packed."""
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w") as archive:
        for name, content in (("a.b/0.jpg", picture(0, "jpg")), ("a.b/0.json", b'{"n": 1}'), ("a.b/0.txt", b"a cat")):
            head = tarfile.TarInfo(name)
            head.size = len(content)
            archive.addfile(head, io.BytesIO(content))
    table = json.dumps({"messages": [{"role": "user", "content": "hi"}]}).encode() + b"\n"
    return {
        "parquet": (formats.HuggingFace, saved(onevision(), folder, "parquet").read_bytes()),
        "arrow": (formats.HuggingFace, saved(blip3o(), folder, "arrow").read_bytes()),
        "tar": (formats.WebDataset, tar.getvalue()),
        "packed tar": (formats.WebDataset, gzip.compress(tar.getvalue())),
        "packed lines": (JsonLines, gzip.compress(3 * table)),
    }


def media_files(folder: Path) -> dict[str, Modality]:
    """One small intact file for each reader."""
    noise = np.random.default_rng(0)
    pictures = noise.integers(0, 256, (3, 8, 8, 3), dtype=np.uint8)
    images = [Image.fromarray(picture) for picture in pictures]
    for ending in ("png", "jpg", "webp", "bmp", "tiff", "gif"):
        images[0].save(folder / f"1.{ending}")
    images[0].save(folder / "move.webp", save_all=True, append_images=images[1:], duration=100)
    video = Media(Modality.VIDEO, pictures, rate=8.0)
    for ending in ("mp4", "mkv", "gif"):
        save_media(video, folder / f"move.{ending}")
    for ending in ("wav", "flac", "ogg"):
        soundfile.write(folder / f"1.{ending}", noise.random(400) - 0.5, 8000)
    cloud = noise.random((20, 3), dtype=np.float32)
    np.save(folder / "c.npy", cloud)
    np.savez(folder / "c.npz", points=np.stack([cloud, cloud]))
    np.savez_compressed(folder / "one.npz", points=cloud)
    box = trimesh.creation.box()
    for ending in ("glb", "obj", "off", "ply"):
        box.export(folder / f"box.{ending}")
    (folder / "s.jsonl").write_text('{"strokes": [[[0, 1], [2, 3]]]}\n', encoding="utf-8")
    kinds = {"png": "image", "jpg": "image", "webp": "image", "bmp": "image", "tiff": "image", "gif": "image"}
    kinds |= {"wav": "audio", "flac": "audio", "ogg": "audio"}
    made = {f"1.{ending}": Modality(kind) for ending, kind in kinds.items()}
    made |= {f"move.{ending}": Modality.VIDEO for ending in ("webp", "mp4", "mkv", "gif")}
    return made | {name: Modality.POINTS for name in ("c.npy", "one.npz", "box.glb", "box.obj", "box.off", "box.ply")}


@pytest.mark.slow
def test_damaged_input_is_read_or_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    files = media_files(tmp_path)
    sets = {name: (form, text.encode()) for name, (form, text) in TEXTS.items()} | packed_sets(tmp_path)
    limits = MediaLimits(pixels=100_000, seconds=60, frames=100, points=10_000, bytes=4 << 20)
    draw = random.Random(0)
    intact = {name: (tmp_path / name).read_bytes() for name in files}
    readers = [*sets, *files]
    outcomes = {name: [0, 0] for name in readers}
    slowest = (0.0, "")
    gc.collect()
    gc.freeze()  # the collector needn't pass through what other tests have left
    warm = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for case in range(CASES):
        name = readers[case % len(readers)]
        before = time.thread_time()  # other tests' servers have threads of their own
        try:
            if name in sets:
                form, content = sets[name]
                path = tmp_path / "set"
                path.write_bytes(damaged(content, draw))
                source = form(path)
                for index in range(len(source)):
                    try:
                        source[index]
                    except ValueError:
                        outcomes[name][1] += 1
            else:
                path = tmp_path / f"damaged{Path(name).suffix}"
                path.write_bytes(damaged(intact[name], draw))
                media: Any = read_media(path, files[name], limits)
                assert np.isfinite(media.array).all()
            outcomes[name][0] += 1
        except ValueError as error:
            outcomes[name][1] += 1
            assert "Fix: " in str(error) or "expected" in str(error), str(error)
        slowest = max(slowest, (time.thread_time() - before, f"{name}, case {case}"))
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - warm) * 1024
        assert grown < MEMORY, (name, case, grown)
    assert slowest[0] < SECONDS_EACH, slowest
    # The damage is such that some of it is seen, and some isn't; a reader that refuses all or nothing tests nothing.
    assert all(refused > 0 for _, refused in outcomes.values()), outcomes
    assert sum(read > 0 for read, _ in outcomes.values()) > 0.9 * len(readers), outcomes
