"""The whole model: text and media in any mix -> text and media in any mix."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
import torch.distributed as distributed
from torch import Tensor, nn

from isthmus.backbones.base import Sampling
from isthmus.backbones.owned_state import State, copy_state
from isthmus.cache.frozen import CacheSettings, FrozenCache
from isthmus.data.batching.collate import Collator
from isthmus.data.conversations.schema import Conversation
from isthmus.input_projectors.p_former import PFormer
from isthmus.layout import on_device
from isthmus.model.answering import answer, converse
from isthmus.model.backbone import Backbone
from isthmus.model.counting import counts_of, layout_within, over_processes, target_labels, with_late_counts
from isthmus.model.input_side import InputSide
from isthmus.model.losses import LossWeights, Terms, cosine_to, distance_to
from isthmus.model.memory import Memory
from isthmus.model.micro_batches import learn
from isthmus.model.objective import Objective
from isthmus.model.output_side import OutputSide
from isthmus.model.owned import owned_state, parts
from isthmus.model.prompting import no_media, prompt_collator, prompts
from isthmus.model.reference import Reference
from isthmus.model.reply import Reply
from isthmus.model.teaching import imitate, teach
from isthmus.model.touching import touched
from isthmus.paths import user_path
from isthmus.precision import mixed_on
from isthmus.types import Batch, Features, Modality, is_shapes_only

OptimizerFactory = Callable[[list[nn.Parameter]], torch.optim.Optimizer]
SchedulerFactory = Callable[[torch.optim.Optimizer], torch.optim.lr_scheduler.LRScheduler]


class AnyToAny(pl.LightningModule):
    """F = Encoder(media), P = InputProjector(F), text, S = LLM(P, text), H = OutputProjector(S), media = Generator(H).

    A stage (:class:`isthmus.training.StageSwitch`) says what trains, under which loss weights and optimizer.
    Frozen experts are no part of the model's state: ``state_dict`` holds what was trained here, and nothing else.

    Args:
        backbone: the LLM.
        input_side: encoders and input projectors; None for a model that takes text alone.
        output_side: generators and output projectors; None for a model that answers in text alone.
        seed: of the initial values of all that is trained.
        sampling: how answers are drawn where a request doesn't say.
        cache: where training keeps encoder features and caption conditions; None computes them each time.
        autocast: whether answers on a GPU are computed in mixed precision where no Trainer says how.
    """

    def __init__(
        self,
        backbone: Backbone,
        input_side: InputSide | None = None,
        output_side: OutputSide | None = None,
        seed: int = 0,
        sampling: Sampling | None = None,
        cache: CacheSettings | None = None,
        autocast: bool = True,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.input_side = input_side
        self.output_side = output_side
        self.seed = seed
        self.sampling = sampling or Sampling()
        self.cache_settings = cache
        self.autocast = autocast
        self.loss_weights = LossWeights()
        self.optimizer_factory: OptimizerFactory | None = None
        self.scheduler_factory: SchedulerFactory | None = None
        self.objective: Objective | None = None
        self.reference: Reference | None = None
        self.micro_batches = 1
        self.configuration: dict[str, Any] | None = None
        self._is_built = False
        self._cache: FrozenCache | None = None

    def configure_model(self) -> None:
        """Builds all that is trained, and the LLM; frozen experts load on first use.

        Lightning calls it; twice is once. Within :func:`isthmus.types.shapes_only` no weights are read.
        """
        if self._is_built:
            return
        # Initial values depend on the model's own seed alone, so that separate runs and one run start alike.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            self.backbone.language_model.materialize(meta=is_shapes_only())
            if self.input_side is not None:
                self.input_side.build(self.backbone.width, self.backbone.language_model.fused)
            if self.output_side is not None:
                self.output_side.build(self.backbone.width, self.backbone.language_model.vocabulary.signal_counts)
        self._is_built = True

    @property
    def inputs(self) -> list[Modality]:
        """The media that it takes."""
        return [] if self.input_side is None else list(self.input_side.serving)

    @property
    def teacher(self) -> PFormer:
        """The projectors' teacher.

        Raises:
            ValueError: it has none.
        """
        if self.input_side is None or self.input_side.teacher is None:
            raise ValueError(
                "losses: found a weight on teaching or imitation, but no teacher; expected one. Give the input side "
                "one (input_side.teacher: isthmus.input_projectors.PFormer)"
            )
        return self.input_side.teacher

    @property
    def outputs(self) -> list[Modality]:
        """The media that it makes."""
        return [] if self.output_side is None else list(self.output_side.serving)

    def forward(self, batch: Batch) -> Terms:
        """A batch of conversations -> its loss terms. What weighs 0, by term or by modality, isn't computed."""
        weights = self.loss_weights
        language_model = self.backbone.language_model
        teaching = teach(self.teacher, language_model, batch.texts) if weights.teaching else None
        if weights.is_text_alone and teaching is not None:
            nothing = torch.zeros_like(teaching.tokens)
            return Terms(torch.zeros_like(teaching.text), None, nothing, teaching=teaching)
        projected = {} if self.input_side is None else self.input_side(batch.media)  # F, P
        closed = batch if self.input_side is None else self.input_side.closed(batch, projected)
        closed = self.backbone.language_model.laid_out(closed)
        output = self.backbone(closed, projected)  # text, S
        terms = Terms(output.text_loss, None, on_device(closed.target_count, self.device), teaching=teaching)
        if weights.imitation:
            terms.imitation = imitate(self.teacher, batch, projected)
        if output.correct is not None:
            terms.correct = output.correct.sum()
            terms.called = self.called(closed, target_labels(closed), output.correct)
        if self.output_side is None or not weights.alignment + weights.denoising:
            return terms
        signals = {modality: states for modality, states in output.signals.items() if weights.factor(modality)}
        heard = self.output_side(signals)  # H
        for modality, states in heard.items():
            runs = batch.signals[modality]
            if weights.alignment:
                target = self.output_side.target(modality, runs.captions)
                terms.alignment[modality] = distance_to(target, states, weights.alignment_form)
                terms.cosine[modality] = cosine_to(target, states)
            if weights.denoising and runs.contents:
                terms.denoising[modality] = self.output_side.denoising(
                    modality, states, runs, layout_within(closed).runs[modality].contents
                )
        return terms

    def called(self, batch: Batch, labels: Tensor, correct: Tensor) -> dict[Modality, Tensor]:
        """By modality, the share of runs whose first signal token was the likeliest, of labels (P,) and hits (P,)."""
        shares = {}
        for modality in batch.signals:
            first = labels == self.backbone.language_model.vocabulary.signal_ids(modality)[0]
            shares[modality] = (correct & first).sum() / first.sum().clamp(min=1)
        return shares

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The stage's loss over the global batch, with a gradient for all that trains."""
        if self.objective is None:
            loss = self._step(batch, "train")
        else:
            outcome = self.objective.step(self, batch)
            self._log(outcome.shared | outcome.own, "train", len(batch), set(outcome.shared))
            loss = outcome.loss
        groups = [group for optimizer in self.trainer.optimizers for group in optimizer.param_groups]
        return touched(loss, [parameter for group in groups for parameter in group["params"]])

    def validation_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The same loss on validation data."""
        return self._step(batch, "validation")

    def test_step(self, batch: Batch, batch_idx: int) -> Any:
        """Answers to prompts, a list of :class:`~isthmus.model.reply.Reply`, for an evaluation callback to judge."""
        seeds = [int(details.get("seed", row)) % 2**31 for row, details in enumerate(batch.details)]
        return self.answer(batch, seeds=seeds)

    def _step(self, batch: Batch, split: str) -> Tensor:
        world, in_parts = self.trainer.world_size, split == "train" and self.micro_batches > 1
        # Known from the layout, they are added up over processes while the encoders run.
        counted = over_processes(self, counts_of(self, batch.parts))
        if in_parts:
            counts = counted()
            loss, terms = learn(self, batch.parts, counts)
        else:
            terms = self(batch)
            counts = with_late_counts(self, terms, counted())
            loss = terms.total(self.loss_weights, counts)
        # DDP averages gradients over processes: times the world, a sum over the global batch stays a sum.
        loss = loss * world
        values = {"loss": loss, "text_loss": terms.text * world / counts[0].clamp(min=1)}
        if terms.correct is not None:
            values["text_accuracy"] = terms.correct * world / counts[0].clamp(min=1)
        for modality, share in terms.called.items():
            values[f"signal_called_{modality}"] = share
        for modality, runs in terms.alignment.items():
            values[f"alignment_{modality}"] = runs.detach().mean()
            values[f"signal_cosine_{modality}"] = terms.cosine[modality] / max(len(runs), 1)
        for modality, contents in terms.denoising.items():
            values[f"denoising_{modality}"] = contents.detach().mean()
        if terms.teaching is not None:
            for name, count in (("contrastive", counts[3]), ("vocabulary", counts[3]), ("text", counts[4])):
                values[f"teaching_{name}"] = getattr(terms.teaching, name) * world / count.clamp(min=1)
        if terms.imitation is not None:
            for modality, distance in terms.imitation.distances.items():
                values[f"imitation_{modality}"] = distance / terms.imitation.media.clamp(min=1)
        # Not every process meets every modality in a step: only what all of them log may be reduced across them.
        everywhere = {"loss", "text_loss", "text_accuracy"}
        everywhere |= {"teaching_contrastive", "teaching_vocabulary", "teaching_text"}
        self._log(values, split, sum(map(len, batch.parts)), everywhere)
        return loss

    def _log(self, values: Mapping[str, Tensor], split: str, size: int, everywhere: Collection[str]) -> None:
        """Logs a step's figures; those that every process has are averaged over them."""
        shared = {name: value.detach().float() for name, value in values.items()}
        world = self.trainer.world_size
        # Sorted, since processes may have found them in different orders.
        together = sorted(name for name in shared if name in everywhere) if world > 1 and split == "train" else []
        if together:  # at once: Lightning's own reduction takes a barrier for each
            sums = torch.stack([shared[name] for name in together])
            distributed.all_reduce(sums)
            shared |= dict(zip(together, sums / world, strict=True))
        for name, value in shared.items():
            self.log(
                f"{split}/{name}",
                value,
                batch_size=size,
                prog_bar=name in ("loss", "text_accuracy", "preference_accuracy", "reward"),
                sync_dist=world > 1 and split != "train" and name in everywhere,
                on_step=split == "train",
                on_epoch=split != "train",
            )

    def answering_precision(self) -> AbstractContextManager[Any]:
        """The precision of answers: the Trainer's where there is one; else mixed on a GPU, if ``autocast`` is on."""
        if self._trainer is not None:
            return self.trainer.precision_plugin.forward_context()
        return mixed_on(self.device) if self.autocast else nullcontext()

    def answer(
        self,
        batch: Batch,
        sampling: Sampling | None = None,
        required: Sequence[Sequence[Modality]] | None = None,
        allowed: Sequence[Modality] | None = None,
        seeds: Sequence[int] | None = None,
        steps: int | None = None,
        guidance: float | None = None,
        memory: Memory | None = None,
        features: Mapping[Modality, Features] | None = None,
    ) -> list[Reply]:
        """Answers a batch of prompts. See :func:`isthmus.model.answering.answer`."""
        own = sampling or self.sampling
        with self.answering_precision():
            return answer(self, batch, own, required, allowed, seeds, steps, guidance, memory, features)

    def chat(
        self,
        messages: Sequence[Mapping[str, Any]],
        require: Sequence[str] = (),
        sampling: Sampling | None = None,
        steps: int | None = None,
        guidance: float | None = None,
    ) -> Reply:
        """Answers a conversation in the chat-content convention. See :func:`isthmus.model.answering.converse`."""
        return converse(self, messages, require, sampling or self.sampling, steps, guidance)

    def collator(self, split: str) -> Collator:
        """What makes this model's batches, under the present stage. Test batches are prompts, in the LLM's context."""
        if split == "test":
            return prompt_collator(self, self.sampling)
        side, weights, cache = self.input_side, self.loss_weights, self.cache()
        objective = self.objective if split == "train" else None
        prepares = weights.denoising > 0
        if objective is not None and not objective.mixes:
            prepares = objective.prepares
        make: Callable[..., Collator] = Collator if objective is None else objective.collator
        return make(
            planner=self.backbone.planner,
            preprocess={} if side is None else side.preprocessors(),
            requests={} if side is None else side.requests(),
            positions=no_media if side is None else side.positions,
            outputs=self.outputs,
            prepare=self.output_side.preparers() if prepares and self.output_side is not None else {},
            prepare_requests=self.output_side.requests() if prepares and self.output_side is not None else {},
            max_tokens=self.backbone.max_tokens,
            cached=None if side is None or cache is None else side.cached(),
            micro_batches=self.micro_batches if split == "train" else 1,
        )

    def cache(self) -> FrozenCache | None:
        """What training keeps of frozen parts; its folder is made when it is first asked for."""
        if self.cache_settings is None:
            return None
        if self._cache is None:
            self._cache = FrozenCache(self.cache_settings)
            for side in (self.input_side, self.output_side):
                if side is not None:
                    side.cache = self._cache
        self._cache.precision = "32-true" if self._trainer is None else str(self._trainer.precision)
        return self._cache

    def prompts(
        self,
        conversations: Sequence[Conversation],
        sampling: Sampling | None = None,
        required: Sequence[Sequence[Modality]] | None = None,
        memory: Memory | None = None,
    ) -> Batch:
        """Conversations -> a batch of prompts on the model's device. See :func:`isthmus.model.prompting.prompts`."""
        return prompts(self, conversations, sampling or self.sampling, required, memory)

    def configure_optimizers(self) -> Any:
        """The stage's optimizer over what the stage trains, and its schedule."""
        if self.optimizer_factory is None:
            raise ValueError("this model has no stage; expected one before training. Add the StageSwitch callback.")
        trained = [parameter for parameter in self.parameters() if parameter.requires_grad]
        optimizer = self.optimizer_factory(trained)
        if self.scheduler_factory is None:
            return optimizer
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": self.scheduler_factory(optimizer), "interval": "step"},
        }

    def parts(self) -> dict[str, dict[str, nn.Parameter]]:
        """What can be trained: part, such as ``input_projectors.image`` or ``lora`` -> its parameters by name."""
        return parts(self)

    def named_owned(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Every trained parameter, under ``part:name``."""
        for part, parameters in self.parts().items():
            for name, parameter in parameters.items():
                yield f"{part}:{name}", parameter

    def owned_state(self) -> dict[str, dict[str, Tensor]]:
        """What was trained here, by component."""
        return owned_state(self)

    def load_owned_state(self, state: State, strict: bool = True) -> None:
        """Copies :meth:`owned_state` of a like model into this one, all of it or nothing.

        Args:
            state: by component.
            strict: every component of the model must be there. Otherwise absent ones keep their initial values: a stage
                that adds LoRA or a modality goes on from one without. A teacher's weights are passed over by a model
                without one: it has no part in answering.

        Raises:
            ValueError: a component is unknown or missing, or tensors differ in name or shape; nothing is copied then.
        """
        own = self.owned_state()
        copy_state(own, {part: state[part] for part in state if part in own or part != "teacher"}, strict)

    def state_dict(self, *_: Any, **__: Any) -> dict[str, Any]:  # type: ignore[override]  # a flat, owned state alone
        """What was trained here, flat: frozen experts stay in their own files."""
        return {f"{part}:{name}": t for part, tensors in self.owned_state().items() for name, t in tensors.items()}

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """The inverse of :meth:`state_dict`; every key must be there and fit."""
        state: dict[str, dict[str, Tensor]] = {}
        for key, tensor in state_dict.items():
            part, _, name = key.partition(":")
            state.setdefault(part, {})[name] = tensor
        self.load_owned_state(state, strict)
        return nn.modules.module._IncompatibleKeys([], [])

    @classmethod
    def from_checkpoint(
        cls, folder: str | Path, device: str | torch.device = "cpu", allow: Sequence[str] = ()
    ) -> AnyToAny:
        """A model, built and ready to answer, from a folder that training wrote.

        Args:
            folder: the trained stage's.
            device: where to.
            allow: packages whose classes the folder may name beside this one's, as ``["my_package"]``: opening it runs
                their code.

        Raises:
            ValueError: the folder isn't one, is damaged, names a class that isn't allowed, or its experts aren't those
                that it was trained beside.
        """
        from isthmus.model.bundle import build_from_bundle

        return build_from_bundle(cls, user_path(folder), allow).to(device).eval()
