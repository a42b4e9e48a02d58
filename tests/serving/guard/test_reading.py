"""Reading media of requests: decoders that are killed cost their request alone, and no file is left."""

from __future__ import annotations

import base64
import contextlib
import gc
import io
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2 as httpx
import numpy as np
import psutil
import pytest
from PIL import Image
from served import LIMITS, wait_for

from isthmus.data.media.files import read_media
from isthmus.request import Request
from isthmus.serving.errors import ApiError
from isthmus.serving.guard import uploads
from isthmus.serving.guard.patience import Patience
from isthmus.serving.guard.uploads import PREFIX, Uploads, has_room
from isthmus.serving.media import to_bytes
from isthmus.serving.provenance import Provenance
from isthmus.serving.reading import Reader
from isthmus.types import MEDIA, Media, Modality


def every_other(frames: int, rate: float) -> range:
    """The frames of an encoder that looks at half of them."""
    return range(0, frames, 2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """For uploads."""
    path = tmp_path_factory.mktemp("uploads")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "tempdir", str(path))
        yield path


@pytest.fixture
def reader(folder: Path) -> Iterator[Reader]:
    reader = Reader(replace(LIMITS, decoders=1), {Modality.VIDEO: Request(every_other)}, MEDIA)
    reader.start()
    yield reader
    reader.close()
    assert not list(folder.glob("isthmus-*")), "nothing is left"


def test_a_worker_reads_what_this_process_reads(reader: Reader, files: dict[str, Path]) -> None:
    with reader.upload() as upload:
        for name, path in files.items():
            asked = Request(every_other) if name == "video" else None
            here = read_media(path, Modality(name), request=asked)
            there = upload.from_bytes(path.read_bytes(), path.suffix, Modality(name), name)
            assert np.array_equal(here.array, there.array) and here.array.dtype == there.array.dtype
            assert (here.rate, here.total, there.source) == (there.rate, here.total, name)
            assert (here.times is None) == (there.times is None)
            assert here.times is None or np.array_equal(here.times, there.times)
            there.array[:] = 0  # the server's own


def test_errors_name_the_field(reader: Reader, folder: Path) -> None:
    with reader.upload() as upload, pytest.raises(ApiError) as wrong:
        upload.from_bytes(b"nothing", ".png", Modality.IMAGE, "messages[0]")
    assert wrong.value.status == 400 and wrong.value.message.startswith("messages[0]: ")
    assert "1.png" not in wrong.value.message and str(folder) not in wrong.value.message


def test_a_decoder_that_is_killed(reader: Reader, files: dict[str, Path], folder: Path) -> None:
    image = files["image"].read_bytes()
    with reader.upload() as upload:
        upload.from_bytes(image, ".png", Modality.IMAGE, "a")
        (worker,) = reader.decoders._idle.queue
        assert worker is not None
        os.kill(worker.process.pid, signal.SIGSTOP)  # it hangs
        upload._left["decoder"] = 0.3
        with pytest.raises(ApiError) as late:
            upload.from_bytes(image, ".png", Modality.IMAGE, "a")
        assert (late.value.status, late.value.code) == (400, "decoder_time")
    with reader.upload() as upload:
        assert upload.from_bytes(image, ".png", Modality.IMAGE, "a").array.size, "the next one has a new process"
    small = Reader(replace(LIMITS, decoders=1, decoder_memory=1 << 20), {}, MEDIA)
    small.start()
    with small.upload() as upload, pytest.raises(ApiError) as large:
        file = io.BytesIO()
        Image.new("RGB", (1500, 1500)).save(file, "PNG")
        upload.from_bytes(file.getvalue(), ".png", Modality.IMAGE, "a")
    small.close()
    assert (large.value.status, large.value.code) == (400, "decoder_memory")


def test_the_time_is_that_of_all_media_of_a_request(reader: Reader, files: dict[str, Path]) -> None:
    image = files["image"].read_bytes()
    with reader.upload() as upload:
        before = upload._left["decoder"]
        upload.from_bytes(image, ".png", Modality.IMAGE, "a")
        assert upload._left["decoder"] < before


def test_all_media_of_a_request_have_one_room(reader: Reader) -> None:
    """Files and what they decode to; each file is gone once it is read."""
    file = io.BytesIO()
    Image.new("RGB", (800, 800)).save(file, "PNG")  # 1.8 MiB, and a file of few kB
    reader.limits = replace(reader.limits, media_megabytes=4)
    with reader.upload() as upload:
        for name in ("a", "b"):
            upload.from_bytes(file.getvalue(), ".png", Modality.IMAGE, name)
            assert not list(upload.folder.iterdir())
        with pytest.raises(ApiError) as many:
            upload.from_bytes(file.getvalue(), ".png", Modality.IMAGE, "c")
        assert many.value.status == 400 and many.value.message.startswith("c: found more than the media of a request")
        assert not list(upload.folder.iterdir())
    with reader.upload() as upload, pytest.raises(ApiError, match="expected at most 4 MiB"):
        upload.from_bytes(file.getvalue() + bytes(3 << 20), ".png", Modality.IMAGE, "a")


def test_a_request_has_no_more_time_for_media_than_is_left_of_its_own(reader: Reader, files: dict[str, Path]) -> None:
    image = files["image"].read_bytes()
    with reader.upload(Patience(60.0)) as upload:
        upload.from_bytes(image, ".png", Modality.IMAGE, "a")
        busy = reader.decoders._idle.get()
        upload.patience = Patience(0.2)
        with pytest.raises(ApiError) as waits:
            upload.from_bytes(image, ".png", Modality.IMAGE, "a")
        assert busy is not None
        os.kill(busy.process.pid, signal.SIGSTOP)  # it hangs
        reader.decoders._idle.put(busy)
        upload.patience = Patience(0.3)
        with pytest.raises(ApiError) as hangs:
            upload.from_bytes(image, ".png", Modality.IMAGE, "a")
        assert (waits.value.code, hangs.value.code) == ("timeout", "timeout")
        upload.patience = Patience(60.0)
        upload.from_bytes(image, ".png", Modality.IMAGE, "a")
        upload.patience.end()
        with pytest.raises(ApiError):
            upload.from_bytes(image, ".png", Modality.IMAGE, "a")


def test_media_that_wait_keep_neither_text_waiting_nor_a_place_for_who_left(
    serving: Any, files: dict[str, Path]
) -> None:
    url = f"data:image/png;base64,{base64.b64encode(files['image'].read_bytes()).decode()}"
    body = {"model": "tiny", "max_tokens": 1, "modalities": ["text"]}
    text = body | {"messages": [{"role": "user", "content": "a"}]}
    part = {"type": "image_url", "image_url": {"url": url}}
    picture = body | {"messages": [{"role": "user", "content": [part]}]}
    others = workers()
    limits = replace(LIMITS, decoders=1, queue=3, decode_seconds=60.0)  # 5 places
    with serving(limits=limits) as address:
        chat = f"{address}/v1/chat/completions"
        assert httpx.post(chat, json=picture, timeout=60).status_code == 200
        (worker,) = workers() - others
        worker.suspend()  # it hangs
        for _ in range(4):  # one has the decoder, one waits for it, two for a thread
            with pytest.raises(httpx.ReadTimeout):
                httpx.post(chat, json=picture, timeout=0.3)
        for _ in range(3):
            assert httpx.post(chat, json=text, timeout=60).status_code == 200, "it doesn't wait, and has a place"
        assert 'status="499"} 2.0' in httpx.get(f"{address}/metrics").text, "whose medium wasn't begun are let go"
        worker.resume()
        wait_for(lambda: 'status="499"} 4.0' in httpx.get(f"{address}/metrics").text)
        assert httpx.post(chat, json=picture, timeout=60).status_code == 200


def test_a_request_whose_decoder_is_killed_and_the_next(serving: Any, files: dict[str, Path]) -> None:
    """Over HTTP: 400 in the API's form, then an answer."""
    url = f"data:image/png;base64,{base64.b64encode(files['image'].read_bytes()).decode()}"
    part = {"type": "image_url", "image_url": {"url": url}}
    body = {"model": "tiny", "max_tokens": 1, "modalities": ["text"], "messages": [{"role": "user", "content": [part]}]}
    others = workers()
    with serving(limits=replace(LIMITS, decoders=1, decode_seconds=3.0)) as address:

        def ask() -> httpx.Response:
            return httpx.post(f"{address}/v1/chat/completions", json=body, timeout=60)

        wait_for(lambda: ask().status_code == 200)
        for worker in workers() - others:
            worker.suspend()  # it hangs
        refused = ask()
        assert refused.status_code == 400 and refused.json()["error"]["code"] == "decoder_time", refused.text
        assert "media that decode slowly" in refused.json()["error"]["message"]
        wait_for(lambda: ask().status_code == 200)


def test_a_refused_request_is_forgotten_at_once(address: str, files: dict[str, Path]) -> None:
    """Its body and media would stay until Python's collector looks: for long, since they are few objects."""
    urls = [
        f"data:image/png;base64,{base64.b64encode(data).decode()}" for data in (files["image"].read_bytes(), b"no PNG")
    ]
    parts = [{"type": "image_url", "image_url": {"url": url}} for url in urls]
    body = {"model": "tiny", "messages": [{"role": "user", "content": parts}]}

    def errors() -> list[Exception]:
        return [each for each in gc.get_objects() if isinstance(each, ApiError) and "content[1]" in each.message]

    gc.collect()
    gc.disable()
    try:
        assert not errors()
        refused = httpx.post(f"{address}/v1/chat/completions", json=body, timeout=60)
        assert refused.status_code == 400 and "content[1]" in refused.json()["error"]["message"], refused.text
        wait_for(lambda: not errors())
    finally:
        gc.enable()


def workers() -> set[psutil.Process]:
    """Those of all servers of this process."""
    found: set[psutil.Process] = set()
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.NoSuchProcess):  # another test's may end meanwhile
            found |= set(child.children())
    return found


def test_uploads_that_no_question_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "whole").mkdir()
    for name in ("whole/a.png", "broken", "coming"):
        (tmp_path / name).write_bytes(bytes(100))
    for name in ("whole/a.png", "broken"):
        os.utime(tmp_path / name, (0, 0))
    assert has_room(tmp_path, 10, 60.0)
    assert {path.name for path in tmp_path.rglob("*")} == {"whole", "a.png", "coming"}, "what broke off is gone"
    monkeypatch.setattr(uploads, "KEPT_BYTES", 205)
    assert has_room(tmp_path, 5, 60.0) and not has_room(tmp_path, 6, 60.0)
    monkeypatch.setattr(uploads, "KEPT_FILES", 2)
    assert not has_room(tmp_path, 0, 60.0) and has_room(tmp_path / "none", 0, 60.0)


def test_folders_of_servers_that_were_killed(folder: Path) -> None:
    program = "import os, signal; from isthmus.serving.guard.uploads import Uploads, own_folder; own = Uploads()\n"
    program += "with own.folder() as path, own_folder() as other:\n"
    program += "    (path / 'a').touch(); (other / 'a').touch(); os.kill(os.getpid(), signal.SIGKILL)"
    subprocess.run([sys.executable, "-c", program], env=os.environ | {"TMPDIR": str(folder)}, check=False)
    left = [*folder.glob(f"{PREFIX}*/*/a"), *folder.glob(f"{PREFIX}*/a")]
    living = Uploads()
    assert len(left) == 2 and not any(path.exists() for path in left) and living.root.stat().st_mode & 0o077 == 0
    other = Uploads()
    assert living.root.exists() and other.root.exists(), "that of a server that lives stays"
    with pytest.raises(KeyError), living.folder() as path:
        (path / "a").touch()
        raise KeyError
    assert not path.exists()
    living.close()
    other.close()
    assert not list(folder.glob("isthmus-*"))


def test_made_media_are_written_where_what_is_left_is_swept(folder: Path) -> None:
    held = []

    class Seen(Provenance):
        def mark(self, path: Path) -> None:
            held.extend(folder.glob(f"{PREFIX}*/{path.name}"))

    medium = Media(Modality.IMAGE, np.zeros((2, 2, 3), np.uint8))
    assert to_bytes(medium, Seen("tiny", 0)).startswith(b"\x89PNG")
    assert len(held) == 1 and not list(folder.glob("isthmus-*"))
