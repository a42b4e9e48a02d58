"""The P-Former in training (BLIText, arXiv 2307.07063): it learns from text alone, then projectors imitate it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from isthmus.backbones.base import LanguageModel
from isthmus.input_projectors.p_former import PFormer, contrastive_loss, vocabulary_loss
from isthmus.layout import on_device
from isthmus.model import InputSide
from isthmus.types import IGNORED, Batch, MediaBatch, Modality
from isthmus.vocabulary import MEDIA_POSITION

PLACE = Modality.IMAGE
"""The medium as whose positions a prompt is given to the LLM. It stands without tags, so any would do."""


@dataclass
class Lesson:
    """Texts as the teacher reads them and as the LLM should write them after its prompts; made on the CPU.

    Attributes:
        ids: (B, L) the teacher's.
        mask: (B, L).
        batch: the LLM's, laid out.
    """

    ids: Tensor
    mask: Tensor
    batch: Batch

    @property
    def counts(self) -> tuple[int, int]:
        """How many texts there are, and tokens that the LLM writes."""
        return len(self.ids), self.batch.target_count


@dataclass
class Teaching:
    """The teacher's own loss terms as sums (), with what they count in this process.

    Attributes:
        contrastive: how ill each text is told from the others of this process's batch, summed over texts.
        vocabulary: distance of the prompts to the nearest word embeddings, summed over texts.
        text: cross-entropy of the texts, written by the LLM after their prompts, summed over tokens.
        texts: how many.
        tokens: how many.
    """

    contrastive: Tensor
    vocabulary: Tensor
    text: Tensor
    texts: int
    tokens: int

    def __add__(self, other: Teaching) -> Teaching:
        return Teaching(*(own + more for own, more in zip(vars(self).values(), vars(other).values(), strict=True)))


@dataclass
class Described:
    """By modality how far () P is from what is said of its media, summed over them, and how many media count in all."""

    distances: dict[Modality, Tensor]
    media: int

    def __add__(self, other: Described) -> Described:
        distances = dict(self.distances)
        for modality, own in other.distances.items():
            distances[modality] = distances[modality] + own if modality in distances else own
        return Described(distances, self.media + other.media)


def teacher_of(side: InputSide | None) -> PFormer:
    """The projectors' teacher.

    Raises:
        ValueError: there is none.
    """
    if side is None or side.teacher is None:
        raise ValueError(
            "losses: found a weight on teaching or imitation, but no teacher; expected one. Give the input side "
            "one (input_side.teacher: isthmus.input_projectors.PFormer)"
        )
    return side.teacher


def lesson_of(teacher: PFormer, language_model: LanguageModel, texts: Sequence[str]) -> Lesson | None:
    """What the teacher learns from: texts that aren't empty; None without any."""
    written = [text for text in texts if text.strip()]
    if not written:
        return None
    batch = _after_prompts(language_model, written, teacher.positions, teacher.max_tokens)
    return Lesson(*teacher.tokenize(written), batch)


def teach(teacher: PFormer, language_model: LanguageModel, lesson: Lesson | None) -> Teaching:
    """What the teacher itself learns by: a text -> prompts -> the same text, written by the frozen LLM."""
    device = teacher.temperature.device
    if lesson is None:
        zero = torch.zeros((), device=device)
        return Teaching(zero, zero, zero, 0, 0)
    prompts, features = teacher(on_device(lesson.ids, device), on_device(lesson.mask, device))
    with torch.no_grad():
        words = language_model.embed(torch.arange(language_model.vocabulary.base_size, device=device)[None])[0]
    shown = torch.ones(prompts.shape[:2], dtype=torch.bool, device=device)
    batch, (texts, tokens) = lesson.batch.to(device, non_blocking=device.type != "cpu"), lesson.counts
    return Teaching(
        contrastive_loss(features, teacher.temperature) * texts,
        vocabulary_loss(prompts, words).sum(),
        language_model(batch, {PLACE: (prompts, shown)}).text_loss,
        texts,
        tokens,
    )


def media_rows(batch: Batch) -> dict[Modality, list[int]]:
    """By modality the row of each of its media. Without a layout the batch's device is asked."""
    if batch.layout is None:
        return {modality: own.rows.tolist() for modality, own in batch.media.items()}
    return {modality: places.rows for modality, places in batch.layout.media.items()}


def is_described(batch: Batch) -> list[bool]:
    """Of each row, whether its text is about a medium: there is a text, and the conversation has one medium alone."""
    media = Counter(row for own in media_rows(batch).values() for row in own)
    return [media[row] == 1 and bool(text.strip()) for row, text in enumerate(batch.texts)]


def imitate(teacher: PFormer, batch: Batch, projected: Mapping[Modality, tuple[Tensor, Tensor]]) -> Described:
    """The mean square distance of each medium's P to the teacher's prompt for what the conversation says of it.

    Which media count says :func:`is_described`. No gradient reaches the teacher, and nothing is hidden from it.

    Args:
        teacher: of as many positions as the projectors' M.
        batch: its ``texts`` are what the teacher reads.
        projected: by modality P (n, M, E) and its mask.

    Raises:
        ValueError: a projector's M isn't the teacher's.
    """
    was_training, device = teacher.training, teacher.temperature.device
    with torch.no_grad():
        prompts, _ = teacher.eval()(*(on_device(own, device) for own in teacher.tokenize(batch.texts)))
    teacher.train(was_training)
    rows_that_count = is_described(batch)
    counts = on_device(rows_that_count, device)
    distances = {}
    for modality, (states, _) in projected.items():
        if states.shape[1:] != prompts.shape[1:]:
            raise ValueError(
                f"losses.imitation: found {states.shape[1]} positions of {modality} and {teacher.positions} prompts of "
                "the teacher; expected as many. Give input_side.teacher the projector's `positions`, and use a "
                "projector of fixed length, such as isthmus.input_projectors.QFormer"
            )
        rows = batch.media[modality].rows
        gaps = (states.float() - prompts[rows].float()).square().mean((1, 2))
        distances[modality] = (gaps * counts[rows]).sum()
    return Described(distances, sum(rows_that_count))


def _after_prompts(language_model: LanguageModel, texts: Sequence[str], positions: int, longest: int) -> Batch:
    """Each text as the LLM should write it after a prompt: media positions, words, and an end where it isn't cut."""
    tokenizer = language_model.tokenizer
    written: list[list[int]] = [
        [*tokenizer(text, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id][:longest] for text in texts
    ]
    size = (len(texts), positions + max(map(len, written)))
    ids = torch.zeros(size, dtype=torch.int64)
    mask = torch.zeros(size, dtype=torch.bool)
    labels = torch.full(size, IGNORED, dtype=torch.int64)
    ids[:, :positions] = MEDIA_POSITION
    for row, words in enumerate(written):
        end = positions + len(words)
        ids[row, positions:end] = labels[row, positions:end] = torch.tensor(words)
        mask[row, :end] = True
    rows = torch.arange(len(texts))
    places = MediaBatch({}, rows, torch.zeros_like(rows), torch.full_like(rows, positions))
    return language_model.laid_out(Batch(ids, mask, labels, {PLACE: places}))
