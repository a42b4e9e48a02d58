"""P learns to say what is said of its medium, in the LLM's own embeddings, while the LLM isn't run.

The positions P of a medium are read as a speech recogniser's outputs are. Each is scored against embeddings of tokens,
and connectionist temporal classification (CTC; Graves et al., ICML 2006) sums over all ways in which the text's tokens
may stand among them, in their order, with a line break wherever nothing is said. Each position is also drawn to the
embedding that it is read as. So the LLM gets of a medium nearly what it would get of the text: speech is transcribed,
other media are described. That projectors learn before an LLM is attached is SpeechMapper's idea (arXiv 2601.20417);
that the LLM's embeddings are what they learn is Wav2Prompt's (arXiv 2406.00522).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from isthmus.backbones.base import LanguageModel
from isthmus.layout import on_device
from isthmus.training.objectives.teaching import Described, is_described, media_rows
from isthmus.types import Batch, Modality

NEVER = -1e9
"""The log-probability of a token at a position that a medium doesn't take."""


def spell(
    language_model: LanguageModel, batch: Batch, projected: Mapping[Modality, tuple[Tensor, Tensor]]
) -> Described:
    """How far each medium's P is from saying what the conversation says of it.

    Of each medium it is CTC's negative log-likelihood, in nats, divided by the number of the text's tokens, plus the
    mean square distance of P to what it is read as, as a share of the embeddings' variance. Tokens are told from those
    of this batch's other texts. Which media count says :func:`~isthmus.training.objectives.teaching.is_described`.

    Args:
        language_model: whose embeddings they are; they don't change.
        batch: its ``texts`` are what is said. What of a text doesn't fit into the medium's positions is left out.
        projected: by modality P (n, M, E) and its mask.
    """
    counts, tokenizer = is_described(batch), language_model.tokenizer
    blank: int = tokenizer("\n", add_special_tokens=False)["input_ids"][-1]
    texts: list[list[int]] = [
        tokenizer(text, add_special_tokens=False)["input_ids"] if counted else []
        for text, counted in zip(batch.texts, counts, strict=True)
    ]
    said = [blank, *sorted({token for text in texts for token in text} - {blank})]
    classes = {token: place for place, token in enumerate(said)}
    with torch.no_grad():
        embeddings = language_model.embed(on_device([said], batch.ids.device))[0].float()  # (C, E)
    distances = {}
    for modality, rows in media_rows(batch).items():
        states, mask = projected[modality]
        room = mask.sum(1).tolist() if batch.layout is None else batch.layout.media[modality].lengths
        written = [[classes[token] for token in texts[row] if token != blank] for row in rows]
        own = costs(states.float(), mask, embeddings, [fitting(*each) for each in zip(written, room, strict=True)])
        distances[modality] = (own * on_device([float(counts[row]) for row in rows], own.device)).sum()
    return Described(distances, sum(counts))


def fitting(text: Sequence[int], positions: int) -> list[int]:
    """As much of a text as so many positions can say: between two equal tokens there has to be a blank."""
    needed, fitting = 0, []
    for place, token in enumerate(text):
        needed += 2 if place and token == text[place - 1] else 1
        if needed > positions:
            break
        fitting.append(token)
    return fitting


def costs(states: Tensor, mask: Tensor, embeddings: Tensor, texts: Sequence[Sequence[int]]) -> Tensor:
    """(n,) how far each medium is from saying its text.

    Args:
        states: P (n, M, E), float32.
        mask: (n, M).
        embeddings: (C, E) of the blank, then of other tokens.
        texts: of each medium the rows of its tokens in ``embeddings``.
    """
    states = states.masked_fill(~mask[..., None], 0)  # what isn't taken may hold anything
    variance = embeddings.var().clamp(min=1e-12)
    # -|P - e|^2 / 2, without |P|^2, which is the same for all: by the square root of E, as attention's scores are.
    scores = states @ embeddings.T - embeddings.square().sum(1) / 2
    read = (scores / (variance * embeddings.shape[1] ** 0.5)).log_softmax(-1)  # (n, M, C)
    nothing = NEVER * (torch.arange(len(embeddings), device=read.device) > 0)  # the blank, for certain
    spoken = torch.where(mask[..., None], read, nothing)
    sizes = [len(text) for text in texts]
    padded = [[*text, *[0] * (max(sizes) - len(text))] for text in texts]
    # With lengths as numbers: those of tensors would be read from the device.
    targets, lengths = on_device(padded, read.device), [states.shape[1]] * len(sizes)
    likelihoods = torch.ctc_loss(
        spoken.transpose(0, 1), targets, lengths, sizes, blank=0, reduction=0, zero_infinity=True
    )
    gaps = (states - read.detach().exp() @ embeddings).square().mean(2) / variance
    nearness = (gaps * mask).sum(1) / mask.sum(1).clamp(min=1)
    cost: Tensor = likelihoods / on_device([max(size, 1) for size in sizes], read.device) + nearness
    return cost
