"""A callback of ``fit``: answers to fixed prompts at intervals, as files and wherever the run's loggers show them."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

from isthmus.data.conversations.schema import Conversation, parse_conversation
from isthmus.evaluation.samples.loggers import Sample, show
from isthmus.frozen import FrozenExpert
from isthmus.generators.pipeline_expert import PipelineExpert
from isthmus.modalities import is_medium, known_media
from isthmus.model import AnyToAny, Reply
from isthmus.paths import user_path
from isthmus.training.module import training_module
from isthmus.training.objectives.reference import eval_mode
from isthmus.training.running.callbacks import callbacks_of
from isthmus.training.stage_switch import StageSwitch
from isthmus.types import Modality

log = logging.getLogger(__name__)

FOLDER = "samples"


@dataclass
class Prompt:
    """What the model is asked.

    Attributes:
        text: the words of it.
        media: files that go before the words, by modality: ``{image: three.png}``.
        require: media that the answer must hold: ``[image]``. What the LLM doesn't ask for by itself is forced.
    """

    text: str
    media: dict[str, Path] = field(default_factory=dict)
    require: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        for name in (*self.media, *self.require):
            if not is_medium(name):
                raise ValueError(f"prompts: found '{name}'; expected media: {', '.join(known_media())}. Fix: rename it")

    def conversation(self) -> Conversation:
        """The same as a conversation."""
        pieces = [{"type": name, name: str(user_path(path))} for name, path in self.media.items()]
        content = [*pieces, {"type": "text", "text": self.text}]
        return parse_conversation({"messages": [{"role": "user", "content": content}]}, "prompts")


class SampleLog(pl.Callback):
    """Answers the same prompts, from the same seeds, while the model learns.

    Each time the answers are written into ``FOLDER/STAGE-STEP``, and given to the run's loggers: TensorBoard and
    Weights & Biases show text, images, films, sound and clouds; MLflow keeps the files. Training goes on as if nothing
    had been asked. Generators that a stage doesn't need are loaded for it, and released again.

    Args:
        prompts: what is asked.
        every_n_steps: of the stage; its last step counts, too.
        folder: where files are written; ``samples`` in the Trainer's ``default_root_dir`` if None.
        seed: of the first prompt's media; each further one has the next.

    Raises:
        ValueError: there is no prompt, or the interval isn't at least 1.
    """

    def __init__(
        self, prompts: Sequence[Prompt], every_n_steps: int = 200, folder: Path | None = None, seed: int = 0
    ) -> None:
        if not prompts or every_n_steps < 1:
            raise ValueError(
                f"SampleLog: found {len(prompts)} prompts every {every_n_steps} steps; expected at least one of each. "
                "Fix: give prompts, or take the callback out."
            )
        self.prompts = list(prompts)
        self.every_n_steps = every_n_steps
        self.folder = None if folder is None else user_path(folder)
        self.seed = seed

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Asks where it is time. Every process answers, as one that waited would hold up a sharded model."""
        step, last = batch_idx + 1, trainer.num_training_batches
        if trainer.fast_dev_run or (step % self.every_n_steps and step != last):  # type: ignore[attr-defined]  # set by a connector
            return
        module = training_module(pl_module)
        with ExitStack() as within:
            for switch in callbacks_of(trainer, StageSwitch):
                if switch.average is not None:
                    within.enter_context(switch.average(module))
            within.enter_context(aside(module.model))
            replies = self.answer(module.model)
        if trainer.is_global_zero:
            samples = [
                Sample(prompt.text, prompt.media, reply) for prompt, reply in zip(self.prompts, replies, strict=True)
            ]
            folder = Path(trainer.default_root_dir, FOLDER) if self.folder is None else self.folder
            show(trainer.loggers, samples, folder / f"{module.name}-{step}", trainer.global_step)

    def answer(self, model: AnyToAny) -> list[Reply]:
        """A reply to each prompt; media that the model doesn't take or make are left out of it."""
        replies = []
        for number, prompt in enumerate(self.prompts):
            required = [[Modality(name) for name in prompt.require]]
            batch = model.prompts([prompt.conversation()], required=required)
            replies += model.answer(batch, required=required, seeds=[self.seed + number])
        return replies


@contextmanager
def aside(model: AnyToAny) -> Iterator[None]:
    """Whatever is done inside leaves no trace: modes, random numbers and loaded experts are as they were."""
    experts = {id(each): each for each in model.experts().values() if isinstance(each, FrozenExpert)}.values()
    absent = [each for each in experts if not each.is_loaded]
    halved = [each for each in absent if isinstance(each, PipelineExpert) and each.conditioner_is_loaded]
    devices = [model.device] if model.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices), eval_mode(model):
        yield
    for generator in halved:  # alignment needs the conditioner, which would be read anew after each time
        generator.release_denoiser()
    for expert in absent:
        if expert not in halved:
            expert.release()
