"""The checkpoints of a run: which there are, which is the newest, what is wrong with one, and which are kept."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterable
from contextlib import suppress
from hashlib import file_digest
from pathlib import Path
from typing import Any

from isthmus.training.checkpoints.files import fault_of_file, read_file
from isthmus.writing import PREVIOUS, sync_folder

SUFFIX = ".ckpt"
LAST = "last"
"""The name of the newest one, as Lightning has it."""
MANIFEST = "manifest.json"
"""Of a checkpoint that is a folder: its step, and sizes and SHA-256 sums of its files. It is written last."""


def checkpoints(folder: Path) -> list[Path]:
    """The checkpoints of a folder, those of most steps first; links that lead nowhere are left out.

    Files' times count only among those of the same step: clocks of machines differ.
    """
    return sorted(_there(folder), key=_age, reverse=True)


def latest(folders: Iterable[Path]) -> list[Path]:
    """What ``--ckpt_path last`` means, and after it what stands in its place where it isn't whole.

    Those that are called ``last`` come first, then the others; of both, those of most steps.
    """
    found = [path for folder in folders for path in _there(folder)]
    return sorted(found, key=lambda path: (path.name.startswith(LAST), *_age(path)), reverse=True)


def step_of(path: Path) -> int | None:
    """How many optimizer steps a checkpoint holds, of all stages; None if it is damaged."""
    try:
        if path.is_dir():
            return int(json.loads((path / MANIFEST).read_text(encoding="utf-8"))["step"])
        return int(read_file(path, lazily=True)["global_step"])
    except (OSError, RuntimeError, ValueError, KeyError, TypeError, EOFError):
        return None


def fault_of(path: Path, share: int = 0, shares: int = 1) -> str | None:
    """What keeps a checkpoint from being whole; None if it is. Every byte is read.

    Args:
        path: a file, or a folder of shards.
        share: the processes of a run divide a folder's files; which part is this one's.
        shares: how many parts there are.
    """
    if not path.is_dir():
        return fault_of_file(path)
    if not (path / MANIFEST).is_file():
        return f"it has no {MANIFEST}, which is written last: its writer was ended, or another program has made it"
    try:
        files = files_of(path)
        for name, told in list(files.items())[share::shares]:
            if not (path / name).is_file():
                return f"its {name} isn't there"
            if (size := (path / name).stat().st_size) != told["size"]:
                return f"its {name} is damaged (found {size} bytes, expected {told['size']})"
            with (path / name).open("rb") as file:
                if file_digest(file, "sha256").hexdigest() != told["sha256"]:
                    return f"its {name} is damaged (its content isn't what was written)"
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return f"it can't be read ({type(error).__name__}: {error})"
    return None


def files_of(folder: Path) -> dict[str, Any]:
    """Size and sum of a checkpoint's files, by name.

    Raises:
        ValueError: the manifest is damaged, or names a file of another folder.
        OSError: there is none.
    """
    files: dict[str, Any] = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["files"]
    if strange := [name for name in files if name != Path(name).name]:
        raise ValueError(f"{MANIFEST} names {strange[0]}, which isn't a file of this folder")
    return files


def newest_whole(folder: Path, but: Path | None = None) -> Path | None:
    """The newest whole checkpoint of a folder, other than one of them."""
    return next((path for path in latest([folder]) if path != but and fault_of(path) is None), None)


def put(partial: Path, target: Path, step: int, keep_last: int) -> None:
    """Puts a checkpoint that was written aside in its place.

    The earlier one of this name is first called by its step, ``last-100.ckpt``, and stays if so many are kept. A file
    that replaces a file needs one rename. Between the two renames that a folder needs, the earlier one is found under
    its other name.

    Args:
        partial: where it was written.
        target: its name.
        step: how many steps it holds.
        keep_last: how many of the newest are kept under this name.
    """
    kept = keep_last - 1 if target.stem == LAST else 0
    aside: Path | None = None
    earlier = step_of(target)
    if target.exists() and (kept or target.is_dir() or partial.is_dir()):
        aside = target.with_name(f"{target.stem}-{earlier}{SUFFIX}" if earlier is not None else target.name + PREVIOUS)
        discard(aside)
        _call(target, aside, copies=partial.is_file() and target.is_file())
    os.replace(partial, target)
    sync_folder(target.parent)
    if aside is not None and (not kept or earlier is None):
        discard(aside)
    if target.stem == LAST:
        prune(target, step, kept)


def prune(target: Path, step: int, kept: int) -> None:
    """Removes the earlier checkpoints of a name, but so many.

    Those of later steps are of a run that was begun again before them, and go first.
    """
    named = re.compile(rf"{re.escape(target.stem)}-(\d+){re.escape(SUFFIX)}")
    earlier = {int(found[1]): path for path in target.parent.iterdir() if (found := named.fullmatch(path.name))}
    wanted = sorted((number for number in earlier if number < step), reverse=True)[:kept]
    for number, path in earlier.items():
        if number not in wanted:
            discard(path)


def discard(path: Path) -> None:
    """Removes a file or a folder, where there is one; what is left of a folder is no checkpoint."""
    if path.is_dir() and not path.is_symlink():
        (path / MANIFEST).unlink(missing_ok=True)
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _there(folder: Path) -> list[Path]:
    return [path for path in folder.glob(f"*{SUFFIX}") if path.is_file() or (path / MANIFEST).is_file()]


def _age(path: Path) -> tuple[int, int, str]:
    """By steps; times only tell apart those of the same step."""
    return step_of(path) or 0, path.stat().st_mtime_ns, path.name


def _call(path: Path, name: Path, copies: bool) -> None:
    """Gives a checkpoint another name; a file may keep its own one too, where the file system has hard links."""
    if copies:
        with suppress(OSError):
            os.link(path, name)
            return
    os.rename(path, name)
