"""A frozen expert's fingerprint: the same for the same weights, another for others."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from isthmus.cache.fingerprint import BLOCK, EDGE, WHOLE, fingerprint


@pytest.fixture
def expert(tmp_path: Path) -> Path:
    folder = tmp_path / "expert"
    (folder / "unet").mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "unet" / "config.json").write_text('{"width": 3}')
    (folder / "unet" / "weights.safetensors").write_bytes(bytes(range(256)) * 40)
    (folder / "README.md").write_text("words")
    return folder


def test_it_goes_with_the_weights_and_not_with_the_place(expert: Path, tmp_path: Path) -> None:
    before = fingerprint(expert)
    assert len(before) == 32 and int(before, 16) >= 0
    copy = shutil.copytree(expert, tmp_path / "elsewhere")
    (copy / "README.md").write_text("other words")
    (copy / "sample.png").write_bytes(b"x")
    assert fingerprint(copy) == before
    linked = tmp_path / "linked"
    linked.symlink_to(expert)
    assert fingerprint(linked) == before


def flipped(at: int) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        file = folder / "unet" / "weights.safetensors"
        data = bytearray(file.read_bytes())
        data[at] ^= 1
        file.write_bytes(bytes(data))

    return change


def renamed(folder: Path) -> None:
    (folder / "unet").rename(folder / "vae")


def longer(folder: Path) -> None:
    with (folder / "unet" / "weights.safetensors").open("ab") as stream:
        stream.write(b"\0")


def reconfigured(folder: Path) -> None:
    (folder / "unet" / "config.json").write_text('{"width": 4}')


def joined(folder: Path) -> None:
    (folder / "more.bin").write_bytes(b"")


@pytest.mark.parametrize("change", [flipped(0), flipped(5000), flipped(-1), renamed, longer, reconfigured, joined])
def test_it_changes_with_weights_names_and_configuration(expert: Path, change: Callable[[Path], None]) -> None:
    before = fingerprint(expert)
    change(expert)
    assert fingerprint(expert) != before


def test_of_a_large_file_ends_blocks_and_size_count(tmp_path: Path) -> None:
    def sparse(name: str, size: int, at: int) -> str:
        file = tmp_path / name / "large.pt"
        file.parent.mkdir()
        with file.open("wb") as stream:
            stream.truncate(size)
            stream.seek(at)
            stream.write(b"\1")
        return fingerprint(file)

    size = WHOLE + 5 * EDGE
    prints = [
        sparse(name, size + more, at)
        for name, more, at in [("a", 0, 0), ("b", 0, EDGE - 1), ("c", 0, size - EDGE), ("d", 0, size - 1), ("e", 1, 0)]
    ]
    # No chunk as long as two blocks' distance goes unseen.
    gap = size // 32
    prints += [sparse(f"middle{at}", size, at) for at in (EDGE, EDGE + BLOCK - 1, size - EDGE - 1)]
    assert len(set(prints)) == 8

    def stretched(name: str, at: int) -> str:
        file = tmp_path / name
        with file.open("wb") as stream:
            stream.truncate(size)
            stream.seek(at)
            stream.write(b"\1" * gap)
        return fingerprint(file.rename(tmp_path / "large.pt"))

    ats = range(EDGE, size - EDGE - gap, gap)
    assert len({stretched(f"stretched{at}", at) for at in ats}) == len(ats)


def test_of_a_smaller_file_every_byte_counts(tmp_path: Path) -> None:
    file = tmp_path / "weights.pt"
    data = bytearray(4 * EDGE)
    file.write_bytes(data)
    before = fingerprint(file)
    data[2 * EDGE] = 1
    file.write_bytes(data)
    assert fingerprint(file) != before


def test_of_the_same_large_file_it_is_the_same(tmp_path: Path) -> None:
    def sparse(name: str, size: int, at: int) -> str:
        file = tmp_path / name / "large.pt"
        file.parent.mkdir()
        with file.open("wb") as stream:
            stream.truncate(size)
            stream.seek(at)
            stream.write(b"\1")
        return fingerprint(file)

    size = WHOLE + 5 * EDGE
    prints = [sparse("a", size, 0)]
    assert sparse("f", size, 0) == prints[0]


def test_a_single_file_is_known_by_its_name(expert: Path) -> None:
    file = expert / "unet" / "weights.safetensors"
    before = fingerprint(file)
    assert fingerprint(file.rename(file.with_name("other.safetensors"))) != before


def test_an_expert_that_is_not_there_is_named(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for path in (tmp_path / "gone", tmp_path / "empty"):
        with pytest.raises(ValueError, match=f"{path}: found no weights there; download the expert, or fix the path"):
            fingerprint(path)
