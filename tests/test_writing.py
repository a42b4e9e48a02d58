"""Files and folders that are replaced whole: what is found after a kill, on a full disk, or without permission."""

from __future__ import annotations

from pathlib import Path

import pytest
from killed import killed_at

from isthmus.writing import write_file, write_folder

OLD, NEW = {"a": b"old" * 9, "manifest.json": b"1"}, {"a": b"new" * 99, "b": b"x", "manifest.json": b"2"}


def content(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


@pytest.mark.parametrize("moment", ["fsync", "replace"])
def test_a_file_survives_a_kill_in_its_replacement(moment: str, tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    write_file(path, b"old")
    assert killed_at(0, moment, lambda: write_file(path, b"new" * 1000))
    assert path.read_bytes() == b"old" and (tmp_path / "last.ckpt.partial").exists()
    write_file(path, b"newer")
    assert content(tmp_path) == {"last.ckpt": b"newer"}


def test_a_folder_survives_a_kill_at_every_moment_of_its_replacement(tmp_path: Path) -> None:
    folder, previous = tmp_path / "stage", tmp_path / "stage.previous"
    moments = 0
    for name in ("fsync", "rename"):
        call = 0
        write_folder(folder, OLD)
        while killed_at(call, name, lambda: write_folder(folder, NEW)):
            found = content(folder if folder.exists() else previous)
            assert found == (NEW if (name, call) == ("fsync", 4) else OLD)  # the last one syncs the rename itself
            write_folder(folder, OLD)
            call, moments = call + 1, moments + 1
    assert moments == 7  # three files, the folder, two renames, the folder above


def test_a_second_folder_keeps_the_first(tmp_path: Path) -> None:
    for files in (OLD, NEW):
        write_folder(tmp_path / "stage", files)
    assert content(tmp_path / "stage") == NEW and content(tmp_path / "stage.previous") == OLD
    assert {path.name for path in tmp_path.iterdir()} == {"stage", "stage.previous"}


def test_a_full_disk_is_told_and_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    write_file(path, b"old")
    (tmp_path / "last.ckpt.partial").symlink_to("/dev/full")
    with pytest.raises(ValueError, match=r"last.ckpt: found no room .* for 3.0 MB \(free: .* is whole. Fix: free"):
        write_file(path, b"new" * 1_000_000)
    assert content(tmp_path) == {"last.ckpt": b"old"}


def test_a_folder_that_cant_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ValueError, match=r"stage: it can't be written \(NotADirectoryError.*nothing was left.*Fix"):
        write_folder(tmp_path / "file" / "stage", NEW)
