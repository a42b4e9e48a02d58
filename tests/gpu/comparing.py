"""A step of every stage, and an answer, in bfloat16 on any device, held against float32 on the CPU."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from runs import data, stages
from tiny_world import tiny_model
from torch import Tensor
from torch.nn.functional import cosine_similarity

from isthmus.backbones import LoraSettings
from isthmus.backbones.base import Sampling
from isthmus.model import AnyToAny
from isthmus.training import StageSwitch, TrainingModule
from isthmus.types import Modality

STAGES = ["encoder_alignment", "decoder_alignment", "instruction_tuning", "preference_tuning"]
"""Those whose step is decided by its batch alone: in reward tuning rounding may draw other answers."""
LOSS, COSINE = 0.01, 0.99
"""Bounds: the relative difference of losses (on a CPU up to 0.0003), and the cosine of all gradients as one vector
(0.9994); of an answer's picture likewise its mean and its pixels."""
HALF = dict.fromkeys(("llm", "encoders", "generators"), "bfloat16")


@dataclass(frozen=True)
class Compared:
    """One row of the table."""

    what: str
    expected: float
    found: float
    cosine: float

    @property
    def apart(self) -> float:
        """The relative difference."""
        return abs(self.found - self.expected) / max(abs(self.expected), 1e-6)

    def __str__(self) -> str:
        return f"{self.what:34}{self.expected:12.5f}{self.found:12.5f}{self.apart:10.4f}{self.cosine:10.4f}"


HEADER = f"{'':34}{'float32':>12}{'bfloat16':>12}{'apart':>10}{'cosine':>10}"


class Keeps(pl.Callback):
    """Keeps a step's loss and gradients; ``before`` and ``after`` are called around its forward and backward pass."""

    def __init__(self, before: Callable[[], None], after: Callable[[], None]) -> None:
        self.before, self.after = before, after
        self.loss, self.gradient, self.steps = 0.0, torch.zeros(0), 0

    def on_train_batch_start(self, *_: Any) -> None:
        self.steps += 1
        if self.steps == 2:  # experts are read, and kernels compiled, in the first
            self.before()

    def on_after_backward(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.steps == 2:
            self.after()
        if self.steps == 1:
            own = [p.grad.detach().float().cpu().flatten() for p in pl_module.parameters() if p.grad is not None]
            self.gradient = torch.cat(own)

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, *_: Any) -> None:
        if self.steps == 1:
            self.loss = float(outputs["loss"])


def model_of(paths: Mapping[str, Path], dtypes: Mapping[str, Any] | None, **backbone: Any) -> AnyToAny:
    return tiny_model(paths, lora=LoraSettings(2, 4, 0.0), max_tokens=1024, dtypes=dtypes, **backbone)


def learnt(
    model: AnyToAny,
    name: str,
    device: str,
    precision: Any,
    before: Callable[[], None] = lambda: None,
    after: Callable[[], None] = lambda: None,
) -> Keeps:
    """Two steps of a stage on a device, ``cpu`` or ``gpu``."""
    kept = Keeps(before, after)
    stage = replace(stages()[name], steps=2)
    pl.Trainer(
        accelerator=device,
        devices=1,
        precision=precision,
        callbacks=[StageSwitch({name: stage}), kept],
        fast_dev_run=2,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        reload_dataloaders_every_n_epochs=1,
        use_distributed_sampler=False,
    ).fit(TrainingModule(model), datamodule=data())
    return kept


def compare_stage(paths: Mapping[str, Path], name: str, device: str, **backbone: Any) -> Compared:
    """A stage in half precision against itself in float32 on the CPU, without any of the backbone's options."""
    plain = learnt(model_of(paths, None), name, "cpu", "32-true")
    found = learnt(model_of(paths, HALF, **backbone), name, device, "bf16-mixed")
    what = " ".join([name, *(f"{option}={value}" for option, value in backbone.items())])
    return Compared(what, plain.loss, found.loss, float(cosine_similarity(plain.gradient, found.gradient, dim=0)))


def compare_answer(paths: Mapping[str, Path], device: str) -> Compared:
    """The picture of an answer: its mean, and its cosine with that of float32."""
    pictures: list[Tensor] = []
    for where, dtypes in (("cpu", None), ("cuda" if device == "gpu" else device, HALF)):
        model = model_of(paths, dtypes)
        model.configure_model()
        model.to(where).eval()
        asked = [{"role": "user", "content": "draw a seven"}]
        with torch.autocast(torch.device(where).type, torch.bfloat16, enabled=dtypes is not None):
            reply = model.chat(asked, require=["image"], sampling=Sampling(max_new_tokens=4, seed=3))
        (image,) = reply.media(Modality.IMAGE)
        pictures.append(torch.from_numpy(image.array.astype(np.float32)).flatten() / 255)
    plain, found = pictures
    cosine = float(cosine_similarity(plain, found, dim=0))
    return Compared("answer's picture", float(plain.mean()), float(found.mean()), cosine)


def check(compared: Compared, loss: float = LOSS, cosine: float = COSINE) -> None:
    """Holds a row against the bounds.

    Raises:
        AssertionError: it is beyond them.
    """
    assert compared.apart <= loss and compared.cosine >= cosine, f"{HEADER}\n{compared}"
