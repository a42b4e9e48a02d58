"""Conversations -> a batch: plan, decode, preprocess, lay out, stack."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from time import perf_counter

from torch import Tensor

from isthmus.batch_layout import with_layouts
from isthmus.data.batching.lookup import MediumLookup, StateLookup
from isthmus.data.batching.samples import Sample, SampleMedium, SampleRun, stack_pieces
from isthmus.data.conversations.planning import Planner, Targets
from isthmus.data.conversations.schema import Conversation, MediumItem, TextItem
from isthmus.data.errors import DataError, Fault, data_faults
from isthmus.data.media.files import DEFAULT_LIMITS, read_media
from isthmus.data.media.limits import MediaLimits
from isthmus.data.media.stored import StoredFile
from isthmus.data.sampling.seeds import derive_seed
from isthmus.request import Request
from isthmus.types import IGNORED, Batch, Media, Modality
from isthmus.vocabulary import MEDIA_POSITION, MediaSegment, SignalSegment, TextSegment

Preprocess = Callable[[Media], dict[str, Tensor]]
Positions = Callable[[Modality, Mapping[str, Tensor]], int]


class Collator:
    """Makes batches for one model. Runs in data workers: it needs no weights.

    Args:
        planner: writes a conversation as segments.
        preprocess: ``Encoder.preprocess`` by modality; its keys are the inputs that the model takes.
        positions: M, the number of LLM positions of a preprocessed medium: the projector's count for the encoder's.
        outputs: the modalities that the model generates.
        prepare: ``Generator.prepare`` by modality; empty if no denoising loss is trained.
        max_length: the longest sequence T; None if there is no limit.
        targets: the assistant's turns that are trained.
        generation_prompt: makes prompts for decoding instead: a final answer is cut off and nothing is a target.
        limits: caps on media files.
        cached: lookups of cached features by modality; media that they hold are neither decoded nor preprocessed.
        micro_batches: number of parts of a batch, of similar numbers of positions; fewer for fewer conversations.
        requests: the part of a file that ``preprocess`` reads, by modality; no more of it is decoded.
        prepare_requests: likewise for ``prepare``.
        states: lookup of the states of conversations' runs, where the LLM doesn't learn; conversations without media,
            whose states it knows, aren't read by the LLM.
        full_tokens: the oldest exchanges of a longer conversation are left out, until it has at most this length or a
            single exchange; None leaves nothing out.
    """

    def __init__(
        self,
        planner: Planner,
        preprocess: Mapping[Modality, Preprocess],
        positions: Positions,
        outputs: Collection[Modality],
        prepare: Mapping[Modality, Preprocess],
        max_length: int | None,
        targets: Targets = "all",
        generation_prompt: bool = False,
        limits: MediaLimits = DEFAULT_LIMITS,
        cached: Mapping[Modality, MediumLookup] | None = None,
        micro_batches: int = 1,
        full_tokens: int | None = None,
        requests: Mapping[Modality, Request | None] | None = None,
        prepare_requests: Mapping[Modality, Request | None] | None = None,
        states: StateLookup | None = None,
    ) -> None:
        if max_length is not None and max_length < 1:
            raise ValueError(f"max_length: found {max_length}; expected at least 1. Fix: raise it.")
        self.planner = planner
        self.preprocess = dict(preprocess)
        self.positions = positions
        self.outputs = tuple(outputs)
        self.prepare = dict(prepare)
        self.max_length = max_length
        self.targets: Targets = "none" if generation_prompt else targets
        self.generation_prompt = generation_prompt
        self.limits = limits
        self.cached = dict(cached or {})
        self.micro_batches = micro_batches
        self.full_tokens = full_tokens
        self.requests = dict(requests or {})
        self.prepare_requests = dict(prepare_requests or {})
        self.states = states

    def __call__(self, conversations: Sequence[Conversation]) -> Batch:
        """Conversations -> a batch; the first fault is raised."""
        return self.batch([self.sample(conversation) for conversation in conversations])

    def sample(self, conversation: Conversation) -> Sample:
        """Plans, decodes and preprocesses one conversation.

        Raises:
            DataError: a fault of the conversation or of a media file, an unsupported modality, or too many tokens.
        """
        return self.lay_out(conversation, {})

    def lay_out(self, conversation: Conversation, ready: dict[MediumItem, SampleMedium]) -> Sample:
        """As :meth:`sample`. ``ready``: media that have been read, to which those that are read here are added."""
        if self.generation_prompt:
            conversation = conversation.prompt()
        sample = self._laid_out(conversation, ready)
        full = self.full_tokens
        if full is not None and len(sample.ids) > full:
            # Bisection finds the fewest exchanges to leave out, since the length decreases with their number.
            most = max(len(conversation.exchanges()) - 1, 0)
            goes = bisect_left(
                range(most), True, key=lambda n: len(self._laid_out(conversation.without_oldest(n), ready).ids) <= full
            )
            shorter = conversation.without_oldest(goes)
            sample = self._laid_out(shorter, ready)
            sample.left_out = len(conversation.messages) - len(shorter.messages)
        if self.max_length is not None and len(sample.ids) > self.max_length:
            raise DataError(Fault.TOO_LONG, self._too_long(sample, conversation))
        if self.states is not None and sample.runs and not sample.media:
            sample.key, sample.states = self.states.find(sample.ids)
        return sample

    def _too_long(self, sample: Sample, conversation: Conversation) -> str:
        name, found = _name(conversation), len(sample.ids)
        if self.full_tokens is None:
            return (
                f"{name}: found {found} tokens; expected at most max_length = {self.max_length}. "
                "Fix: raise max_length, or shorten the conversation."
            )
        return (
            f"{name}: found {found} tokens in its last turn alone; expected at most {self.max_length}, which leave "
            "room for an answer within the context. Fix: shorten the turn, attach fewer media, or raise the context "
            "where it was lowered."
        )

    def _laid_out(self, conversation: Conversation, ready: dict[MediumItem, SampleMedium]) -> Sample:
        """The conversation as ids, media and runs. ``ready``: media that have been read, to which it adds."""
        name = _name(conversation)
        given, made = self._items(conversation, name)
        sample = Sample(details=dict(conversation.details), text=_answers(conversation, self.targets))
        vocabulary = self.planner.vocabulary
        for segment in self.planner.plan(conversation, self.targets, self.generation_prompt):
            match segment:
                case TextSegment(ids, targets):
                    sample.ids += ids
                    sample.labels += [token if target else IGNORED for token, target in zip(ids, targets, strict=True)]
                case MediaSegment(modality, index):
                    begin, end = vocabulary.tags(modality)
                    item = given[index]
                    if item not in ready:
                        with data_faults(f"{name}: {_file(item)}"):
                            ready[item] = self._medium(item)
                    medium = replace(ready[item], start=len(sample.ids) + 1)
                    sample.media.append(medium)
                    sample.ids += [begin, *[MEDIA_POSITION] * medium.length, end]
                    sample.labels += [IGNORED] * (medium.length + 2)
                case SignalSegment(modality, index, target):
                    if target:
                        sample.runs.append(self._run(modality, made[index], index, len(sample.ids), conversation, name))
                    run = vocabulary.signal_ids(modality)
                    sample.ids += run
                    sample.labels += vocabulary.run_labels(modality) if target else [IGNORED] * len(run)
        return sample

    def batch(self, samples: Sequence[Sample]) -> Batch:
        """Right-pads and stacks, (B, T), with layouts; in micro-batches, of which the first holds the others.

        Raises:
            DataError: media of one modality whose preprocessed tensors differ in shape.
        """
        return with_layouts(stack_pieces(samples, self.micro_batches), self.planner.vocabulary)

    def _items(self, conversation: Conversation, name: str) -> tuple[list[MediumItem], list[MediumItem]]:
        """Input media and generated media in order, after a check that the model supports each of them."""
        given: list[MediumItem] = []
        made: list[MediumItem] = []
        for i, message in enumerate(conversation.messages):
            is_output = message.role == "assistant"
            served: Collection[Modality] = self.outputs if is_output else self.preprocess
            for item in message.content:
                if not isinstance(item, MediumItem):
                    continue
                if item.modality not in served:
                    what, fix = (
                        ("output", "a generator and an output projector")
                        if is_output
                        else ("input", "an encoder and an input projector")
                    )
                    raise DataError(
                        Fault.UNSERVED,
                        f"{name}: messages[{i}]: found {item.modality} as {what}; this model's {what}s are "
                        f"{', '.join(['text', *served])}. Fix: give the model {fix} for {item.modality}.",
                    )
                (made if is_output else given).append(item)
        return given, made

    def _medium(self, item: MediumItem) -> SampleMedium:
        modality, cache, known = item.modality, self.cached.get(item.modality), None
        if cache is not None:
            assert item.media is not None, "the schema gives every input medium a file"
            known = cache.find(item.media, self.limits, item.rate)
            if known.tokens is not None:
                return SampleMedium(modality, {}, 0, cache.positions(known.count), known)
        began = perf_counter()
        inputs = self.preprocess[modality](self._decoded(item, self.requests))
        if cache is not None and known is not None:
            known.seconds, known.count = perf_counter() - began, cache.count(inputs)
        return SampleMedium(modality, inputs, 0, self.positions(modality, inputs), known)

    def _decoded(self, item: MediumItem, requests: Mapping[Modality, Request | None]) -> Media:
        if isinstance(item.media, Path | StoredFile):
            request = requests.get(item.modality)
            return read_media(item.media, item.modality, self.limits, request=request, rate=item.rate)
        assert item.media is not None, "the schema gives every input medium a file"
        return item.media

    def _run(
        self, modality: Modality, item: MediumItem, index: int, start: int, conversation: Conversation, name: str
    ) -> SampleRun:
        if item.caption is None:
            raise DataError(
                Fault.SCHEMA,
                f"{name}: found no caption of the assistant's {modality} number {index}; expected one, the target of "
                "its alignment. "
                "Fix: add what it shows under 'caption'.",
            )
        content = None
        if item.media is not None and modality in self.prepare:
            with data_faults(f"{name}: {_file(item)}"):
                content = self.prepare[modality](self._decoded(item, self.prepare_requests))
        seed = conversation.details.get("seed")
        # Each run of a conversation has its own noise.
        drawn = derive_seed(name, _text(conversation), index) if seed is None else (int(seed) + index) % (1 << 63)
        return SampleRun(modality, start, item.caption, content, drawn)


def _name(conversation: Conversation) -> str:
    return f"conversation {conversation.details.get('id', '')}".rstrip()


def _file(item: MediumItem) -> str:
    """A medium's name in errors."""
    known = str(item.media) if isinstance(item.media, Path | StoredFile) else ""
    return known or f"{item.modality} in memory"


def _answers(conversation: Conversation, targets: Targets) -> str:
    """The text of the trained turns."""
    answers = [message for message in conversation.messages if message.role == "assistant"]
    trained = {"all": answers, "last": answers[-1:], "none": []}[targets]
    items = (item for message in trained if message.trains for item in message.content)
    return " ".join(item.text for item in items if isinstance(item, TextItem))


def _text(conversation: Conversation) -> str:
    """All text and captions, so that conversations without ids differ in their seeds."""
    items = (item for message in conversation.messages for item in message.content)
    return "\n".join(item.text if isinstance(item, TextItem) else f"{item.modality} {item.caption}" for item in items)
