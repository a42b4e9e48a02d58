"""Checkpoints on disk: whole or not there, and what is said of those that aren't."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from killed import killed_at

from isthmus.training.checkpoints.found import checkpoints, fault_of, newest_whole
from isthmus.training.checkpoints.run_checkpoints import RunCheckpoints


def state(step: int) -> dict[str, Any]:
    return {"state_dict": {"weight": torch.full((2000,), float(step))}, "global_step": step}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """``step=1.ckpt`` and, newer, ``last.ckpt``, which holds step 2."""
    for age, (name, step) in enumerate((("step=1", 1), ("last", 2))):
        path = tmp_path / f"{name}.ckpt"
        RunCheckpoints().save_checkpoint(state(step), path)
        os.utime(path, (1000 + age, 1000 + age))
    return tmp_path


def test_a_checkpoint_goes_round(folder: Path) -> None:
    read = RunCheckpoints().load_checkpoint(folder / "last.ckpt", weights_only=True)
    assert read["global_step"] == 2 and torch.equal(read["state_dict"]["weight"], torch.full((2000,), 2.0))
    assert [path.name for path in checkpoints(folder)] == ["last.ckpt", "step=1.ckpt"]


def test_nothing_is_staged_elsewhere(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(folder / "not there"))
    monkeypatch.setattr("tempfile.tempdir", None)
    RunCheckpoints().save_checkpoint(state(3), folder / "last.ckpt")
    assert fault_of(folder / "last.ckpt") is None


@pytest.mark.parametrize("moment", ["fsync", "replace"])
def test_a_kill_while_one_is_written_leaves_the_last(moment: str, folder: Path) -> None:
    assert killed_at(0, moment, lambda: RunCheckpoints().save_checkpoint(state(3), folder / "last.ckpt"))
    read = RunCheckpoints().load_checkpoint(folder / "last.ckpt", weights_only=True)
    assert read["global_step"] == 2


def test_a_trial_run_writes_none(tmp_path: Path) -> None:
    RunCheckpoints(writes=False).save_checkpoint(state(1), tmp_path / "deep" / "last.ckpt")
    assert not list(tmp_path.iterdir())


def damage(path: Path, how: str) -> None:
    data = bytearray(path.read_bytes())
    match how:
        case "cut short":
            data = data[: len(data) // 2]
        case "one bit":
            data[len(data) // 2] ^= 1
        case "empty":
            data = bytearray()
        case "text":
            data = bytearray(b"to do: train\n" * 50)
    path.write_bytes(bytes(data))


@pytest.mark.parametrize("how", ["cut short", "one bit", "empty", "text"])
def test_a_damaged_one_names_the_newest_whole_one(how: str, folder: Path) -> None:
    damage(folder / "last.ckpt", how)
    with pytest.raises(ValueError, match=r"last.ckpt: damaged.*newest whole .* is .*step=1.ckpt; go on with --ckpt"):
        RunCheckpoints().load_checkpoint(folder / "last.ckpt", weights_only=True)
    damage(folder / "step=1.ckpt", how)
    assert newest_whole(folder) is None
    with pytest.raises(ValueError, match="no other whole checkpoint beside it, so begin anew"):
        RunCheckpoints().load_checkpoint(folder / "last.ckpt", weights_only=True)


def test_other_files_are_told_apart(folder: Path) -> None:
    path = folder / "other.ckpt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("notes.txt", "hello")
    assert fault_of(path) == "no checkpoint (found another kind of archive)"
    assert fault_of(folder / "gone.ckpt") == "there is no such file"
    torch.save([1, 2], path)
    with pytest.raises(ValueError, match=r"file of torch.save that is no checkpoint.*is .*last.ckpt"):
        RunCheckpoints().load_checkpoint(path, weights_only=True)
    torch.save({"state_dict": Opens()}, path)
    with pytest.raises(ValueError, match="reading it could run code"):
        RunCheckpoints().load_checkpoint(path, weights_only=True)


class Opens:
    """Would open a file when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return open, ("/tmp/never", "w")
