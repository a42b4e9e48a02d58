"""The card of a trained model that is handed on: a README.md as Hugging Face has them, made of its manifest."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from typing import Any

import yaml
from torch import Tensor

UNSTATED = "not stated"
HASHES = (
    "`manifest.json` names each file of weights with its hash, and each expert with its fingerprint; `isthmus import` "
    "compares all of them."
)


def model_card(
    name: str,
    manifest: Mapping[str, Any],
    state: Mapping[str, Mapping[str, Tensor]],
    licences: Mapping[str, str],
    license: str | None = None,
    figures: Sequence[str] = (),
    home: str | None = None,
    files: Mapping[str, bytes] | None = None,
) -> str:
    """The card's text.

    Args:
        name: of the model.
        manifest: as it is handed on.
        state: what was learnt, by component.
        licences: by role, of the experts' weights.
        license: of what was learnt, as ``apache-2.0``; None if whoever hands it on doesn't say.
        figures: lines of what was measured.
        home: a file, a folder, or a repository on the hub, where it is found; a file of that name if not given.
        files: that are handed on, whose hashes the card states.
    """
    home = home or f"{name}.zip"
    roles = list(manifest["experts"])
    takes, gives = (
        ", ".join(["text", *(role.partition(".")[2] for role in roles if role.startswith(f"{kind}."))])
        for kind in ("encoder", "generator")
    )
    front = {"license": license or "other", "library_name": "isthmus", "pipeline_tag": "any-to-any"}
    parts = [
        [component, str(len(tensors)), f"{sum(own.numel() for own in tensors.values()):,}"]
        for component, tensors in state.items()
    ]
    experts = [
        [role, one["class"], one["checkpoint"], one["fingerprint"], licences.get(role, UNSTATED)]
        for role, one in manifest["experts"].items()
    ]
    data = [
        [source, one["class"], str(one["conversations"]), one.get("content", ""), one.get("licence", UNSTATED)]
        for source, one in manifest.get("data", {}).items()
    ]
    blocks = [
        f"---\n{yaml.safe_dump(front, sort_keys=False)}---",
        f"# {name}",
        f"It takes {takes}, and answers with {gives}. These are the parts that were learnt, up to the stage "
        f"`{manifest['stage']}`, by {_maker(manifest)}; the frozen experts that they were learnt beside are named "
        "below, and come from their own publishers.",
        "## Use",
        "FOLDER is where your experts are; `--experts backbone=PATH` names one by itself. An expert other than the one "
        "below is told by its fingerprint, and refused.",
        f"```\n{_fetch(home)}isthmus import {home.rpartition('/')[2]} --experts_root FOLDER\n"
        f"isthmus chat --model runs/{name}\n```",
        "## What was learnt",
        _table(["part", "tensors", "parameters"], parts),
        "## Experts",
        _table(["role", "class", "checkpoint", "fingerprint", "licence of its weights"], experts),
        "## Learnt from",
        _table(["source", "class", "conversations", "hash of its files", "licence"], data) if data else f"{UNSTATED}.",
        *(["## Files", HASHES, _table(["file", "bytes", "SHA-256"], _hashes(files))] if files else []),
        *(["## Figures", "\n".join(f"- {line}" for line in figures)] if figures else []),
        "## Licences",
        f"What was learnt: {license or f'{UNSTATED}; ask whoever made it'}. The licences of the experts and of the "
        "data bind beside it.",
    ]
    return "\n\n".join(blocks) + "\n"


def _maker(manifest: Mapping[str, Any]) -> str:
    """What has trained it; folders of earlier versions don't say."""
    made = manifest.get("made_by", {})
    return ", ".join(f"{name} {version}" for name, version in made.items()) or f"isthmus, {UNSTATED} which version"


def _fetch(home: str) -> str:
    return f"hf download {home} --local-dir {home.rpartition('/')[2]}\n" if "/" in home else ""


def _hashes(files: Mapping[str, bytes]) -> list[list[str]]:
    return [[name, f"{len(own):,}", sha256(own).hexdigest()] for name, own in sorted(files.items())]


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *([_cell(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(text: str) -> str:
    return " ".join(str(text).replace("|", "\\|").split()) or "-"
