"""The P-Former in training (BLIText, arXiv 2307.07063): it learns from text alone, then projectors imitate it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from isthmus.backbones.base import LanguageBackbone
from isthmus.input_projectors.p_former import PFormer, contrastive_loss, vocabulary_loss
from isthmus.layout import on_device
from isthmus.types import IGNORED, Batch, MediaBatch, Modality
from isthmus.vocabulary import MEDIA_POSITION

PLACE = Modality.IMAGE
"""The medium as whose positions a prompt is given to the LLM. It stands without tags, so any would do."""


@dataclass
class Teaching:
    """The teacher's own loss terms as sums (), with what they count in this process.

    Attributes:
        contrastive: how ill each text is told from the others of this process's batch, summed over texts.
        vocabulary: distance of the prompts to the nearest word embeddings, summed over texts.
        text: cross-entropy of the texts, written by the LLM after their prompts, summed over tokens.
        texts: () int64.
        tokens: () int64.
    """

    contrastive: Tensor
    vocabulary: Tensor
    text: Tensor
    texts: Tensor
    tokens: Tensor


@dataclass
class Imitation:
    """By modality the summed distance () of P to the teacher's prompts, and how many media () count in all."""

    distances: dict[Modality, Tensor]
    media: Tensor


def teach(teacher: PFormer, language_model: LanguageBackbone, texts: Sequence[str]) -> Teaching:
    """What the teacher itself learns by: a text -> prompts -> the same text, written by the frozen LLM.

    Empty texts are left out.
    """
    device = teacher.temperature.device
    written = [text for text in texts if text.strip()]
    if not written:
        zero = torch.zeros((), device=device)
        nothing = torch.zeros((), dtype=torch.int64, device=device)
        return Teaching(zero, zero, zero, nothing, nothing)
    prompts, features = teacher(*teacher.tokenize(written))
    batch = _after_prompts(language_model, written, teacher.positions, teacher.max_tokens).to(device)
    with torch.no_grad():
        words = language_model.embed(torch.arange(language_model.vocabulary.base_size, device=device)[None])[0]
    shown = torch.ones(prompts.shape[:2], dtype=torch.bool, device=device)
    return Teaching(
        contrastive_loss(features, teacher.temperature) * len(written),
        vocabulary_loss(prompts, words).sum(),
        language_model(batch, {PLACE: (prompts, shown)}).text_loss,
        on_device(len(written), device),
        on_device(batch.target_count, device),
    )


def imitate(teacher: PFormer, batch: Batch, projected: Mapping[Modality, tuple[Tensor, Tensor]]) -> Imitation:
    """The mean square distance of each medium's P to the teacher's prompt for what the conversation says of it.

    A medium counts where it is its conversation's only one and there is a text, so that the text is about the medium.
    No gradient reaches the teacher, and nothing is hidden from it.

    Args:
        teacher: of as many positions as the projectors' M.
        batch: its ``texts`` are what the teacher reads.
        projected: by modality P (n, M, E) and its mask.

    Raises:
        ValueError: a projector's M isn't the teacher's.
    """
    was_training = teacher.training
    with torch.no_grad():
        prompts, _ = teacher.eval()(*teacher.tokenize(batch.texts))
    teacher.train(was_training)
    media = torch.zeros(len(batch), dtype=torch.int64, device=prompts.device)
    for modality in projected:
        rows = batch.media[modality].rows
        media = media.index_add(0, rows, torch.ones_like(rows))
    spoken = on_device([bool(text.strip()) for text in batch.texts], prompts.device)
    counts = (media == 1) & spoken
    distances, counted = {}, torch.zeros((), dtype=torch.int64, device=prompts.device)
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
        counted = counted + counts[rows].sum()
    return Imitation(distances, counted)


def _after_prompts(language_model: LanguageBackbone, texts: Sequence[str], positions: int, longest: int) -> Batch:
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
