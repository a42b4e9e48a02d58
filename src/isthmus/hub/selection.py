"""Which of a repository's files make a checkpoint: settings, tokenizers and safetensors, and never a pickle."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

from isthmus.hub.address import address_of

SETTINGS = (".json", ".jinja", ".txt", ".model")
"""Endings of settings, chat templates, vocabularies and SentencePiece models."""
WEIGHTS = (".safetensors", ".gguf")
"""Endings of weights that can't run code."""
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".h5", ".msgpack")
"""Endings of weights in forms that can, or that aren't read here."""
PIPELINE = "model_index.json"
"""The file that a pipeline of diffusers has."""
UNREAD = ("safety_checker", "image_encoder")
"""Folders of a pipeline that none of the generators reads."""
TOKENIZER = "tokenizer"
"""The folder that an encoder which isn't a pipeline may have beside its weights."""

_SHARD = re.compile(r"-\d+-of-\d+\.safetensors$")
_STANDARD = re.compile(r"model(-\d+-of-\d+)?\.safetensors")
_WITHOUT_VARIANT = re.compile(r"[^.]+\.safetensors")
"""A pipeline's weights, and not their copies in another type, as ``model.fp16.safetensors``."""


def is_weights(name: str) -> bool:
    """Whether a file is weights, of those that :func:`chosen` takes."""
    return name.endswith(WEIGHTS)


def chosen(names: Iterable[str], path: str = "") -> list[str]:
    """The files of a checkpoint.

    Args:
        names: of all files of the repository, with slashes.
        path: a folder within it, or one file; the whole if empty.
    """
    every = sorted(names)
    if path in every:
        return [path] if path.endswith((*SETTINGS, *WEIGHTS)) else []
    begin = f"{path}/" if path else ""
    own = [name.removeprefix(begin) for name in every if name.startswith(begin)]
    found = _of_pipeline(own) if PIPELINE in own else _of_folder(own)
    return [begin + name for name in found]


def _of_pipeline(names: Sequence[str]) -> list[str]:
    parts = [PurePosixPath(name) for name in names]
    return [
        str(part)
        for part in parts
        if str(part) == PIPELINE
        or (
            len(part.parts) == 2
            and part.parts[0] not in UNREAD
            and (part.suffix in SETTINGS or _WITHOUT_VARIANT.fullmatch(part.name))
        )
    ]


def _of_folder(names: Sequence[str]) -> list[str]:
    settings = [
        name for name in names if name.endswith(SETTINGS) and PurePosixPath(name).parent.name in ("", TOKENIZER)
    ]
    weights = [name for name in names if name.endswith(".safetensors") and "/" not in name]
    # Beside a model's own there may be copies in other types, or in the form of whoever trained it.
    standard = [name for name in weights if _STANDARD.fullmatch(name)]
    return sorted([name for name in settings if name.count("/") < 2] + (standard or weights))


def refusal(names: Iterable[str], path: str = "") -> str | None:
    """Why :func:`chosen` finds no weights, and the fix; None if it does."""
    every = list(names)
    weights = [name for name in chosen(every, path) if is_weights(name)]
    if weights:
        return _unclear(weights) or _in_part(every, weights, path)
    within = sorted(name for name in every if not path or name == path or name.startswith(f"{path}/"))
    if not within:
        near = sorted({name.partition("/")[0] for name in every})
        return f"found nothing there; expected a file or folder of {', '.join(near[:8])}. Fix: correct the path."
    if files := [name for name in within if name.endswith(".gguf")]:
        return f"found {', '.join(files[:5])}; expected one. Fix: add its name to the address, as /{files[0]}."
    if pickles := [name for name in within if name.endswith(PICKLES)]:
        return (
            f"found weights as {', '.join(pickles[:3])} alone, which can run code; expected safetensors, since nothing "
            "else is fetched. Fix: take a revision that has them (the hub's own conversions are @refs/pr/N), or "
            "convert them in a folder of yours and name that."
        )
    return f"found {', '.join(within[:5])}, and no weights; expected safetensors. Fix: take another repository."


def _unclear(weights: Sequence[str]) -> str | None:
    """Several weights in one folder that aren't parts of one model: only the user knows which."""
    alone = [name for name in weights if "/" not in name and not _SHARD.search(name)]
    if len(weights) == len(alone) > 1:
        return f"found {', '.join(alone[:5])}; expected one. Fix: add its name to the address, as /{alone[0]}."
    return None


def _in_part(names: Sequence[str], weights: Sequence[str], path: str) -> str | None:
    """Parts of a pipeline whose weights are pickles, beside others that are safetensors."""
    begin = f"{path}/" if path else ""
    if begin + PIPELINE not in names:
        return None
    safe = {name.rpartition("/")[0] for name in weights}
    unread = {begin + part for part in UNREAD}
    for name in sorted(names):
        folder = name.rpartition("/")[0]
        is_part = folder.startswith(begin) and folder != path and "/" not in folder.removeprefix(begin)
        if is_part and name.endswith(PICKLES) and folder not in safe | unread:
            return (
                f"found weights of the part {folder} as {name} alone, which can run code; expected safetensors, since "
                "nothing else is fetched. Fix: take a revision that has them, or convert them in a folder of yours."
            )
    return None


def read_files(folder: Path) -> list[Path]:
    """The files in a checkpoint's folder, at any depth; of one in the hub's cache those that were chosen.

    The hub's cache keeps whatever any program has fetched of a repository in one folder.
    """
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    if address_of(folder) is None:
        return files
    names = {file.relative_to(folder).as_posix(): file for file in files}
    return sorted(names[name] for name in chosen(names))
