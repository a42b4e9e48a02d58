"""The whole model: text and media in any mix -> text and media in any mix."""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from isthmus.backbones.base import Answer, Sampling
from isthmus.backbones.decoding.continuous import ContinuousDecoder, OpenAnswer
from isthmus.backbones.decoding.kept import Kept
from isthmus.backbones.decoding.slots import Slots
from isthmus.data.batching.collate import Collator
from isthmus.data.conversations.schema import Conversation, parse_conversation
from isthmus.earlier.options import takes_present_names
from isthmus.losses import AlignmentForm
from isthmus.modalities import is_medium, known_media
from isthmus.model.answering import check_served, make_media, media_of, reply_of
from isthmus.model.composed import Composed
from isthmus.model.memory import Memory
from isthmus.model.output import Output, Scores, scores_of
from isthmus.model.positions import no_media
from isthmus.model.projecting import Projecting, finite
from isthmus.model.reply import Reply
from isthmus.precision import mixed_on
from isthmus.types import Batch, Features, Media, Modality

Projected = Mapping[Modality, tuple[Tensor, Tensor]]
"""By modality P (n, M, E) and its mask (n, M)."""


def turns(messages: str | Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """A conversation's turns; words alone are one of the user's."""
    return [{"role": "user", "content": messages}] if isinstance(messages, str) else list(messages)


class AnyToAny(Composed):
    """F = Encoder(media), P = InputProjector(F), text, S = LLM(P, text), H = OutputProjector(S), media = Generator(H).

    Its three parts can be used by themselves: the input side encodes, the backbone generates, the output side draws.
    How it learns is :class:`isthmus.training.TrainingModule`'s. Its state is what was trained: frozen experts stay in
    their own files.

    Its arguments are those of :class:`~isthmus.model.composed.Composed`.
    """

    def forward(
        self,
        batch: Batch,
        draws: Collection[Modality] = (),
        features: Mapping[Modality, Features] | None = None,
        projected: Projected | None = None,
        **options: Any,
    ) -> Output:
        """A batch of conversations -> the text loss, S and H.

        Args:
            batch: conversations with answers.
            draws: modalities whose runs' S are projected to H.
            features: F by modality, where they are known; or
            projected: P and its mask by modality. Without either, the batch's media are encoded.
            **options: of what is wanted of the text, as :meth:`isthmus.model.Backbone.forward` takes them.
        """
        side = self.input_side
        if projected is None:
            projected = {} if side is None else side(batch.media, features)  # F, P
        batch = batch if side is None else side.packed(batch, projected)
        batch = self.backbone.language_model.laid_out(batch)
        output = self.backbone(batch, projected, **options)  # text, S
        signals = {modality: states for modality, states in output.signals.items() if modality in draws}
        conditions = {} if self.output_side is None else self.output_side(signals)  # H
        return Output(**vars(output), batch=batch, projected=dict(projected), conditions=conditions)

    def score(
        self,
        batch: Batch,
        contents: bool = False,
        aligned: int = 0,
        temperature: float = 1.0,
        projected: Projected | None = None,
        features: Mapping[Modality, Features] | None = None,
        form: AlignmentForm = "mse",
    ) -> Scores:
        """The log-probabilities of a batch's answers, and as far as asked for, how well their media fit.

        Args:
            batch: conversations with answers.
            contents: whether media that bring their file are denoised too.
            aligned: the runs of so many rows, from the first on, are compared with their captions' conditions.
            temperature: of the log-probabilities.
            projected: as in :meth:`forward`.
            features: likewise.
            form: of the distance to the captions' conditions.
        """
        output: Output = self(batch, (), features, projected, by_token=True, temperature=temperature)
        return scores_of(output, self.output_side, contents, aligned, form)

    @takes_present_names
    @torch.no_grad()
    def answer(
        self,
        batch: Batch,
        sampling: Sampling | None = None,
        required: Sequence[Sequence[Modality]] | None = None,
        allowed: Sequence[Modality] | None = None,
        seeds: Sequence[int] | None = None,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        memory: Memory | None = None,
        features: Mapping[Modality, Features] | None = None,
    ) -> list[Reply]:
        """Answers a batch of prompts; the media of all of them are made together, a modality at a time.

        The precision is the Trainer's where there is one; else mixed on a GPU, if ``autocast`` is on.

        Args:
            batch: prompts, as :meth:`prompts` and :meth:`prompt_collator` make them.
            sampling: how text is drawn; as the model has it if None.
            required: for each prompt the media that its reply must hold; what the LLM doesn't ask for is forced.
            allowed: media that may be made; all that have a generator if None.
            seeds: one a prompt, of its media; the sampling's seed plus the row if None.
            num_inference_steps: of the generators; each one's own if None.
            guidance_scale: likewise.
            memory: of the conversation, for a batch of one prompt that was made with it: what it holds isn't computed
                again, and what is new is added.
            features: F of the prompts' media by modality, where they are known; they are encoded otherwise.

        Raises:
            ValueError: a required medium has no generator.
        """
        side, sampling = self.input_side, sampling or self.sampling
        permitted = self._permitted(required, allowed)
        with self._precision():
            projected: Projected = {}
            if side is not None:
                projected = finite(side(batch.media, features) if memory is None else memory.project(side, batch.media))
                batch = side.packed(batch, projected)
            kept = None if memory is None else memory.prefix
            answers = self.backbone.generate(batch, projected, sampling, required, permitted, kept)
            seeds = [sampling.seed + row for row in range(len(answers))] if seeds is None else seeds
        left_out = batch.left_out or [0] * len(answers)
        return self.complete(answers, seeds, left_out, num_inference_steps, guidance_scale)

    def begin(
        self,
        batch: Batch,
        sampling: Sampling | None = None,
        required: Sequence[Modality] = (),
        allowed: Sequence[Modality] | None = None,
        kept: Kept | None = None,
    ) -> Generator[None, None, OpenAnswer]:
        """Begins to answer one prompt beside others: :meth:`advance` then runs it, and decodes its answer.

        It is a generator that encodes one medium a step, for callers who have other work to do between; it returns the
        answer. Each medium is encoded by itself, so that its P doesn't depend on the others.

        Args:
            batch: one prompt, as :meth:`prompts` makes it.
            sampling: as in :meth:`answer`.
            required: media that the reply must hold.
            allowed: as in :meth:`answer`.
            kept: P of earlier prompts' media, to which it adds.

        Raises:
            ValueError: a required medium has no generator, or the LLM decodes whole batches alone.
        """
        permitted, decoder = self._permitted([required], allowed), self._decoder()
        kept = Kept(0) if kept is None else kept
        projecting = None if self.input_side is None else Projecting(self.input_side, batch.media, kept)
        steps = iter(projecting or ())
        while True:
            # Between the steps others compute, in their own precision.
            with torch.no_grad(), self._precision():
                if next(steps, True):
                    break
            yield
        projected = {} if projecting is None else projecting.projected
        with torch.no_grad(), self._precision():
            if self.input_side is not None:
                batch = self.input_side.packed(batch, projected)
            return decoder.begin(batch, projected, sampling or self.sampling, required, permitted)

    def advance(self, answers: Sequence[OpenAnswer], slots: Slots) -> None:
        """One step of decoding: :meth:`isthmus.backbones.decoding.continuous.ContinuousDecoder.advance`."""
        with self._precision():
            self._decoder().advance(answers, slots)

    @torch.no_grad()
    def complete(
        self,
        answers: Sequence[Answer],
        seeds: Sequence[int],
        left_out: Sequence[int],
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
    ) -> list[Reply]:
        """Decoded answers -> replies; their media are made together, a modality at a time.

        Args:
            answers: decoded.
            seeds: one an answer, of its media.
            left_out: how many of each conversation's oldest messages weren't read.
            num_inference_steps: as in :meth:`answer`.
            guidance_scale: likewise.
        """
        media: list[dict[int, Media]] = [{} for _ in answers]
        for modality in self.outputs:
            made = self.draw(modality, answers, seeds, num_inference_steps, guidance_scale)
            media = [held | new for held, new in zip(media, made, strict=True)]
        return [reply_of(answered, media[row], left_out[row]) for row, answered in enumerate(answers)]

    def to_draw(self, answered: Answer) -> list[Modality]:
        """The modalities of a decoded answer's media, which :meth:`draw` makes."""
        return media_of(answered, self.outputs)

    @torch.no_grad()
    def draw(
        self,
        modality: Modality,
        answers: Sequence[Answer],
        seeds: Sequence[int],
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
    ) -> list[dict[int, Media]]:
        """The media of one modality of decoded answers, of each by its piece. Arguments as in :meth:`complete`."""
        if self.output_side is None:
            return [{} for _ in answers]
        with self._precision():
            return make_media(self.output_side, modality, answers, seeds, num_inference_steps, guidance_scale)

    def _permitted(
        self, required: Sequence[Sequence[Modality]] | None, allowed: Sequence[Modality] | None
    ) -> list[Modality]:
        check_served(required, self.outputs)
        return self.outputs if allowed is None else [each for each in allowed if each in self.outputs]

    def _precision(self) -> AbstractContextManager[Any]:
        mixed = mixed_on(self.device) if self.autocast else nullcontext()
        return mixed if self._trainer is None else self.trainer.precision_plugin.forward_context()

    def _decoder(self) -> ContinuousDecoder:
        decoder = self.backbone.language_model
        if not isinstance(decoder, ContinuousDecoder):
            raise ValueError(
                f"backbone: found {type(decoder).__name__}, which decodes whole batches alone; expected a "
                "ContinuousDecoder. Fix: derive it from isthmus.backbones.decoding.continuous.ContinuousDecoder."
            )
        return decoder

    @takes_present_names
    def chat(
        self,
        messages: str | Sequence[Mapping[str, Any]],
        require: Sequence[str] = (),
        sampling: Sampling | None = None,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
    ) -> Reply:
        """Answers the last turn of a conversation in the chat-content convention.

        Where it exceeds the LLM's context, whole oldest exchanges are left out: ``Reply.left_out``.

        Args:
            messages: words, or turns ``{"role", "content"}``; content is a string or a list of text and media, which
                are paths, arrays, pictures or :class:`~isthmus.types.Media`. Media of earlier answers go back in as
                they came.
            require: media that the reply must hold, such as ``["image"]``.
            sampling: how text is drawn; its seed fixes the media too.
            num_inference_steps: of the generators.
            guidance_scale: of the generators.

        Raises:
            ValueError: a message is malformed, a medium isn't served, or a required one has no generator.
        """
        sampling = sampling or self.sampling
        if unknown := [name for name in require if not is_medium(name)]:
            raise ValueError(f"require: found '{unknown[0]}'; expected media: {', '.join(known_media())}")
        conversation = parse_conversation({"messages": turns(messages)}, "messages", captions_required=False)
        required = [[Modality(name) for name in require]]
        batch = self.prompts([conversation], sampling, required)
        (reply,) = self.answer(batch, sampling, required, None, [sampling.seed], num_inference_steps, guidance_scale)
        return reply

    def collator(self, contents: bool = False, make: Callable[..., Collator] = Collator, **options: Any) -> Collator:
        """What makes batches of conversations for this model, in data workers.

        Args:
            contents: whether media that the assistant makes are prepared as denoising targets.
            make: takes :class:`~isthmus.data.batching.collate.Collator`'s arguments.
            options: arguments of it that aren't the model's own.
        """
        side, targets = self.input_side, self.output_side if contents else None
        given: dict[str, Any] = {
            "planner": self.backbone.planner,
            "preprocess": {} if side is None else side.preprocessors(),
            "requests": {} if side is None else side.requests(),
            "positions": no_media if side is None else side.positions,
            "outputs": self.outputs,
            "prepare": {} if targets is None else targets.preparers(),
            "prepare_requests": {} if targets is None else targets.requests(),
            "max_length": self.backbone.max_length,
        }
        return make(**given | options)

    def prompt_collator(
        self, sampling: Sampling | None = None, owed: Sequence[Modality] = (), memory: Memory | None = None
    ) -> Collator:
        """What makes prompts, which share the LLM's context with answers that are drawn so.

        The length of training batches doesn't bind them. See :func:`isthmus.backbones.decoding.limits.prompt_limits`.

        Args:
            sampling: of the answers.
            owed: media that an answer must hold.
            memory: media that it holds are neither decoded nor preprocessed.
        """
        served = list({*self.outputs, *owed})
        limits = self.backbone.language_model.prompt_limits(sampling or self.sampling, owed, served)
        cached = None if self.input_side is None or memory is None else memory.lookups(self.input_side)
        return self.collator(max_length=limits.longest, full_tokens=limits.full, generation_prompt=True, cached=cached)

    def prompts(
        self,
        conversations: Sequence[Conversation],
        sampling: Sampling | None = None,
        required: Sequence[Sequence[Modality]] | None = None,
        memory: Memory | None = None,
    ) -> Batch:
        """Conversations -> a batch of prompts on the model's device.

        Args:
            conversations: the answers at their ends are cut off.
            sampling: of the answers.
            required: for each conversation the media that its answer must hold.
            memory: of the conversation, where there is one only.

        Raises:
            DataError: a malformed conversation, a medium that can't be read or isn't served, or a last turn that is too
                long by itself.
        """
        owed: Sequence[Sequence[Modality]] = [()] * len(conversations) if required is None else required
        collators = [self.prompt_collator(sampling, media, memory) for media in owed]
        samples = [collate.sample(conversation) for collate, conversation in zip(collators, conversations, strict=True)]
        return collators[0].batch(samples).to(self.device)
