"""What made the answers in a folder: they are taken up only by a run that would give the same."""

from __future__ import annotations

import json
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

from isthmus.backbones.owned_state import whole_of
from isthmus.evaluation.comparing.differences import ABSENT, differences
from isthmus.evaluation.report.protocol import protocol
from isthmus.model import AnyToAny
from isthmus.model.bundle import described
from isthmus.training.module import training_module
from isthmus.writing import write_file

ORIGIN = "origin.json"
LIMIT = "limit_test_batches"
SHOWN = 6
"""So many differences are named in an error."""


def origin(trainer: pl.Trainer) -> dict[str, Any]:
    """All that decides over a test run's answers, as plain data; where the model is sharded all have to call this.

    How much of the test data is read isn't among it: a run may go on with more of it.
    """
    model = training_module(trainer.lightning_module).model
    experts = {
        role: {"class": own["class"], "fingerprint": own["fingerprint"]}
        for role, own in described(model.experts()).items()
    }
    made = {name: value for name, value in protocol(trainer, {}).items() if name != LIMIT}
    return {"weights": trained_digest(model), "experts": experts, "precision": str(trainer.precision), **made}


def trained_digest(model: AnyToAny) -> str:
    """A digest of all that was trained of a model, by component, name, type, shape and value."""
    digest = sha256()
    for component, tensors in sorted(model.owned_state().items()):
        for name, tensor in sorted(tensors.items()):
            whole = whole_of(tensor).detach().cpu().contiguous()
            digest.update(f"{component}:{name}:{whole.dtype}:{tuple(whole.shape)}\n".encode())
            digest.update(whole.flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:32]


def bind(folder: Path, made: Mapping[str, Any]) -> None:
    """Binds a folder of answers to what makes them, or holds it against what made those that are there.

    A test source that the folder doesn't know yet is added.

    Raises:
        ValueError: something else made them; the message names what differs.
    """
    path = folder / ORIGIN
    earlier = read_origin(path)
    if earlier is None and any(folder.glob("*.jsonl")):
        raise ValueError(
            f"{folder}: found answers without {ORIGIN}, so not of a test run; expected a run's own or an empty folder. "
            "Fix: choose another folder, or measure them by isthmus evaluate --predictions."
        )
    earlier = earlier or {}
    tests = {**earlier.get("test", {}), **made.get("test", {})}
    shared = {name: tests[name] for name in earlier.get("test", {})}
    differs = told_differences(earlier, {**made, "test": shared}) if earlier else []
    if differs:
        more = f" and {len(differs) - SHOWN} more" if len(differs) > SHOWN else ""
        raise ValueError(
            f"{folder}: found answers that were made otherwise: {'; '.join(differs[:SHOWN])}{more} (stored -> this "
            "run); expected answers of the same weights, settings and data, to go on with them. Fix: begin anew with "
            "--overwrite, which sets them aside, or choose another folder for this evaluation."
        )
    write_file(path, (json.dumps({**made, "test": tests}, indent=2, sort_keys=True) + "\n").encode())


def read_origin(path: Path) -> dict[str, Any] | None:
    """What made a folder's answers; None where no test run did.

    Raises:
        ValueError: the file is damaged.
    """
    if not path.is_file():
        return None
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: damaged ({error}). Fix: begin anew with --overwrite.") from error
    return found


def told_differences(stored: Any, own: Any) -> list[str]:
    """What differs, as ``dotted.key: stored -> own``."""
    return [f"{key}: {_brief(one)} -> {_brief(other)}" for key, (one, other) in differences(stored, own)]


def _brief(value: Any) -> str:
    text = value if value == ABSENT else json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
