"""A callback of ``fit`` that warns of three ways in which a model collapses, long before a test shows it."""

from __future__ import annotations

import logging
from collections import deque
from math import sqrt
from typing import Any

import pytorch_lightning as pl

from isthmus.data.module import ConversationDataModule
from isthmus.training.module import TrainingModule, training_module
from isthmus.training.watching.plain_text import PlainText, source_of
from isthmus.training.watching.spread import ConditionProbe, scatters
from isthmus.types import Batch, Modality

log = logging.getLogger(__name__)

CALLED = "train/signal_called_{}"
UNCALLED = (
    "the model won't make it by itself. Try: train signal_rows (and lora) in this stage, raise their learning rate or "
    "losses.text, or give more data that asks for this medium."
)
ALIKE = (
    "every prompt would make the same. Try: raise the learning rate of output_projectors or losses.alignment, more "
    "steps, larger batches, captions that differ; or look whether output_projectors train at all "
    "(gradient_norm/output_projectors)."
)
FORGETS = (
    "its text skill falls. Try: mix replay in (isthmus data replay) with a larger weight, a lower learning rate or "
    "rank of lora, or fewer steps."
)


class CollapseWatch(pl.Callback):
    """Warns once a stage of each sign of collapse. Every run has one; a config's own takes its place.

    * Signals aren't called: the likeliest token where a medium is asked for isn't its first signal token.
    * H is too alike: it differs from prompt to prompt by hardly anything beside the generator's own text conditions, so
      that every prompt makes the same medium. Logged as ``watch/spread_MEDIUM``, the ratio of the standard deviations.
    * Text skill falls: the loss of plain text is above that of the LLM without adapters. Logged as ``watch/text_rise``.

    Args:
        every_n_steps: between two looks; at the others nothing is done.
        after: share of a stage's steps before which nothing is judged.
        looks: the latest of them whose mean is judged.
        called: least share of runs whose signals are called; 0 never warns.
        spread: least ratio of H's standard deviation over prompts to that of the conditions; 0 never warns.
        text_rise: greatest rise of plain text's loss, in nats a token.
        plain: name of a source under ``data`` with conversations without media; None: text isn't watched.
        size: how many of them.

    Raises:
        ValueError: a number out of range.
    """

    def __init__(
        self,
        every_n_steps: int = 50,
        after: float = 0.3,
        looks: int = 4,
        called: float = 0.5,
        spread: float = 0.1,
        text_rise: float = 0.25,
        plain: str | None = None,
        size: int = 16,
    ) -> None:
        for name, value, least in (("every_n_steps", every_n_steps, 1), ("looks", looks, 1), ("size", size, 1)):
            if value < least:
                raise ValueError(f"CollapseWatch.{name}: found {value}; expected at least {least}. Fix: raise it.")
        for name, share in (("after", after), ("called", called), ("spread", spread)):
            if not 0 <= share <= 1:
                raise ValueError(f"CollapseWatch.{name}: found {share}; expected a share from 0 to 1. Fix: change it.")
        self.every_n_steps, self.after, self.looks = every_n_steps, after, looks
        self.called, self.spread, self.text_rise = called, spread, text_rise
        self.plain, self.size = plain, size
        self._seen: dict[str, deque[tuple[float, float]]] = {}
        self._told: set[str] = set()
        self._probe: ConditionProbe | None = None
        self._text: PlainText | None = None
        self._stage: str | None = None
        self._tunes = False

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Reads the plain text, so that what is wrong with it is said before any stage.

        Raises:
            ValueError: ``plain`` names no source, or one without plain text.
        """
        self._stage, self._text = None, None
        data: Any = getattr(trainer, "datamodule", None)
        if self.plain is not None and isinstance(data, ConversationDataModule):
            self._text = PlainText(source_of(data, self.plain), self.plain, self.size)

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Batch, batch_idx: int
    ) -> None:
        """Before a step that is looked at, the output projectors are listened to."""
        if not self._is_due(batch_idx):
            return
        module = training_module(pl_module)
        if module.name != self._stage:
            self._enter(module)
        model = module.model
        makes = [modality for modality in model.outputs if any(modality in piece.signals for piece in batch.pieces)]
        if self.spread and makes and trainer.is_global_zero:
            self._probe = ConditionProbe(model, makes)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """Takes what the step has shown, and judges what was shown so far."""
        if not self._is_due(batch_idx):
            return
        module = training_module(pl_module)
        if self._text is not None and self._tunes:  # every process: a sharded model computes together
            rise = self._text.loss(trainer, module)
            assert self._text.own is not None
            self._keep("text_rise", rise - self._text.own, 1.0)
        if not trainer.is_global_zero:
            return
        if self._probe is not None:
            seen, self._probe = self._probe.close(), None
            with trainer.precision_plugin.forward_context():
                for modality, pair in scatters(module.model, seen, batch).items():
                    self._keep(f"spread_{modality}", *pair)
        for modality in {modality for piece in batch.pieces for modality in piece.signals}:
            share = trainer.callback_metrics.get(CALLED.format(modality))
            if share is not None:
                self._keep(f"called_{modality}", float(share), 1.0)
        figures = {f"watch/{name}": self._figure(name) for name in self._seen if not name.startswith("called")}
        for logger in trainer.loggers:
            logger.log_metrics(figures, step=trainer.fit_loop.epoch_loop._batches_that_stepped)
        if module.length is not None and batch_idx + 1 >= self.after * module.length:
            self._judge(module, batch_idx + 1)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Nothing listens on."""
        if self._probe is not None:
            self._probe.close()
            self._probe = None

    def _enter(self, module: TrainingModule) -> None:
        """A stage is watched by itself. Lightning's epoch hook isn't called where a run goes on within a stage."""
        self._stage, self._seen, self._told = module.name, {}, set()
        self._tunes = any(own.requires_grad for own in module.model.parts().get("lora", {}).values())
        if self._text is not None:
            self._text.own = None

    def _is_due(self, batch_idx: int) -> bool:
        return (batch_idx + 1) % self.every_n_steps == 0

    def _keep(self, name: str, part: float, whole: float) -> None:
        self._seen.setdefault(name, deque(maxlen=self.looks)).append((part, whole))

    def _figure(self, name: str) -> float:
        """Of the latest looks: the mean; of variances the ratio of the standard deviations."""
        parts, wholes = (sum(pair[place] for pair in self._seen[name]) for place in (0, 1))
        ratio = parts / max(wholes, 1e-12)
        return sqrt(ratio) if name.startswith("spread") else ratio

    def _judge(self, module: TrainingModule, step: int) -> None:
        for name, looks in self._seen.items():
            if len(looks) < self.looks or name in self._told:
                continue
            kind, _, medium = name.partition("_")
            if (said := self._said(kind, medium, self._figure(name), module)) is not None:
                self._told.add(name)
                log.warning("stage '%s', step %d: %s", module.name, step, said)

    def _said(self, kind: str, medium: str, figure: float, module: TrainingModule) -> str | None:
        """The warning, where the figure is beyond its threshold."""
        if kind == "called" and figure < self.called:
            what = f"where an answer holds {Modality(medium).spec.article} {medium}, its first signal token is the"
            return f"{what} likeliest in {figure:.0%} of all runs (below {self.called:.0%}): {UNCALLED}"
        if kind == "spread" and figure < self.spread:
            what = f"H of {medium} differs from prompt to prompt by {figure:.1%} of what its generator's own text"
            return f"{what} conditions do (below {self.spread:.0%}): {ALIKE}"
        if kind == "text" and figure > self.text_rise:
            assert self._text is not None and self._text.own is not None
            now, most = self._text.own + figure, f"more than {self.text_rise:g}"
            what = (
                f"the loss of plain text ('{self.plain}') is {now:.3f} nats a token, {figure:.3f} above that of the LLM"
            )
            return f"{what} without adapters ({most}): {FORGETS}"
        return None
