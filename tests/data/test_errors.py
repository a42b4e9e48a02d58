"""Whatever is raised while data are read is one worded fault; what says nothing of the data isn't."""

from __future__ import annotations

import errno
import os
import pickle
import resource
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from isthmus.data.errors import LONGEST_REASON, DataError, Fault, data_faults
from isthmus.data.media.files import read_media, save_media
from isthmus.types import Media, Modality

OF_THE_DATA = [
    ValueError("bad"), TypeError("bad"), KeyError("bad"), IndexError("bad"), AttributeError("bad"), RuntimeError("bad"),
    AssertionError("bad"), RecursionError("bad"), NotImplementedError("bad"), ZeroDivisionError("bad"),
    OverflowError("bad"), EOFError("bad"), StopIteration("bad"), ImportError("bad"), struct.error("bad"),
    zlib.error("bad"), UnicodeDecodeError("utf-8", b"bad", 0, 1, "bad"), UserWarning("bad"),
]  # fmt: skip


@pytest.mark.parametrize("error", OF_THE_DATA, ids=lambda error: type(error).__name__)
def test_any_exception_becomes_a_fault_that_names_the_place_and_the_type(error: Exception) -> None:
    with pytest.raises(DataError) as caught, data_faults("set.jsonl:3"):
        raise error
    assert caught.value.fault is Fault.OTHER and caught.value.__cause__ is error
    said = str(caught.value)
    assert said.startswith(f"set.jsonl:3: found what raises {type(error).__name__}") and "bad" in said
    assert "; expected " in said and "Fix: " in said


def test_what_the_system_refuses_is_a_fault_of_the_path() -> None:
    with pytest.raises(DataError, match=r"x: .* raises PermissionError .*denied") as caught, data_faults("x"):
        raise PermissionError(13, "denied", "x.png")
    assert caught.value.fault is Fault.PATH


def test_an_error_of_this_package_keeps_its_words() -> None:
    with pytest.raises(DataError) as caught, data_faults("conversation 3: x.wav"):
        raise ValueError("x.wav: audio of 1 samples; expected at least 400")
    assert str(caught.value) == "conversation 3: x.wav: audio of 1 samples; expected at least 400"
    assert caught.value.fault is Fault.OTHER


STATES = [MemoryError(), *(OSError(code, os.strerror(code)) for code in (errno.EMFILE, errno.ENOSPC, errno.ENOMEM))]


@pytest.mark.parametrize("error", [*STATES, KeyboardInterrupt(), SystemExit(3), GeneratorExit()], ids=repr)
def test_the_machines_state_and_the_users_wish_pass(error: BaseException) -> None:
    with pytest.raises(type(error)) as caught, data_faults("x"):
        raise error
    assert caught.value is error
    if isinstance(error, Exception):
        assert error.__notes__ == ["It was raised while x was read."]


def test_a_fault_passes_as_it_is() -> None:
    fault = DataError(Fault.LIMIT, "too many")
    with pytest.raises(DataError) as caught, data_faults("x"):
        raise fault
    assert caught.value is fault


def test_a_message_can_be_printed_shortened_and_sent_between_processes() -> None:
    with pytest.raises(DataError) as caught, data_faults("a\udcff.png"):
        raise RuntimeError("one\ntwo " + "x" * 10_000)
    said = str(pickle.loads(pickle.dumps(caught.value)))
    assert said == str(caught.value) and "\n" not in said and len(said) < LONGEST_REASON + 200
    assert said.encode("utf-8").startswith(b"a\\udcff.png: found what raises RuntimeError (one two xxx")


def test_ffmpegs_lack_of_memory_is_the_files_and_pythons_the_machines() -> None:
    import av

    from isthmus.data.media.limits import corrupt

    refused = corrupt("a.m4a", "audio", av.error.MemoryError(12, "Cannot allocate memory"), "replace it")
    assert refused.fault is Fault.CORRUPT and "a.m4a: found no readable audio" in str(refused)
    with pytest.raises(MemoryError):
        corrupt("a.m4a", "audio", MemoryError(), "replace it")


def test_files_that_no_descriptor_is_left_for_are_not_at_fault(tmp_path: Path) -> None:
    """Else every sample would be skipped, one after another."""
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    save_media(Media(Modality.AUDIO, np.zeros(400, np.float32), rate=8000.0), tmp_path / "a.wav")
    np.save(tmp_path / "a.npy", np.zeros((4, 3), np.float32))
    read = {"a.png": Modality.IMAGE, "a.wav": Modality.AUDIO, "a.npy": Modality.POINTS}
    for name, modality in read.items():
        read_media(tmp_path / name, modality)
    allowed = resource.getrlimit(resource.RLIMIT_NOFILE)
    found = {}
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, allowed[1]))
        for name, modality in read.items():
            try:
                read_media(tmp_path / name, modality)
            except Exception as error:
                found[name] = error
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, allowed)
    assert {name: (type(error), getattr(error, "errno", None)) for name, error in found.items()} == dict.fromkeys(
        read, (OSError, errno.EMFILE)
    )
