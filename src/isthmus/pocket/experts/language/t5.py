"""An embedded encoder-decoder LLM: a small T5 that speaks the pocket world's language, trained from scratch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from isthmus.data.sampling.seeds import derive_seed
from isthmus.pocket.experts.command import run
from isthmus.pocket.experts.fitting import parameter_count
from isthmus.pocket.experts.language.llama import (
    ANSWER,
    BATCH,
    END,
    GROUP,
    NOISE,
    PAD,
    SPECIAL,
    Chat,
    build_tokenizer,
    encode,
    fit_and_save,
    measure,
)
from isthmus.pocket.language import draw_corpus
from isthmus.types import IGNORED

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast, T5ForConditionalGeneration

Pair = tuple[list[int], list[int]]
"""The encoder's ids, up to the assistant's role token, and the decoder's, with the end token."""

STEPS = 1400
WORD_SCALE = 0.05
"""Initial standard deviation of embedding and head."""
DISTANCE_BIAS = 1.5
"""Initial standard deviation of the attention's relative position biases."""


def build_llm(tokenizer: PreTrainedTokenizerFast) -> T5ForConditionalGeneration:
    """A T5 of about a million parameters, untrained."""
    from transformers import T5Config, T5ForConditionalGeneration

    ids: dict[str, Any] = {
        "pad_token_id": tokenizer.pad_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "decoder_start_token_id": tokenizer.pad_token_id,
    }
    untied: dict[str, Any] = {"tie_word_embeddings": False}  # which the signature doesn't name
    config = T5Config(
        vocab_size=len(tokenizer),
        d_model=128,
        d_kv=32,
        d_ff=320,
        num_layers=3,
        num_decoder_layers=2,
        num_heads=4,
        relative_attention_num_buckets=32,
        relative_attention_max_distance=64,
        dropout_rate=0.0,
        feed_forward_proj="gated-gelu",
        **ids,
        **untied,
    )
    llm = T5ForConditionalGeneration(config)
    # Word embeddings of the same scale as an untrained projector's output, and an untied head as in T5 1.1: with the
    # library's initial scale, 1, training would hardly change words, and media couldn't reach their scale.
    nn.init.normal_(llm.shared.weight, std=WORD_SCALE)
    llm.lm_head.weight = nn.Parameter(torch.empty_like(llm.lm_head.weight).normal_(std=WORD_SCALE))
    # With the library's initial scale, about a tenth, relative position biases have hardly any influence, and grow too
    # little in such a short training: the model couldn't use the order of words.
    for name, parameter in llm.named_parameters():
        if "relative_attention_bias" in name:
            nn.init.normal_(parameter, std=DISTANCE_BIAS)
    llm.generation_config.update(max_new_tokens=32, do_sample=False, **ids)
    return llm


def pairs(rows: Sequence[Sequence[int]]) -> list[list[Pair]]:
    """The ids of chats -> pairs of each chat's answers and their prefixes."""
    cut: list[list[Pair]] = []
    for row in rows:
        starts = [place + 1 for place, token in enumerate(row) if token == ANSWER]
        cut.append([(list(row[:start]), list(row[start : row.index(END, start) + 1])) for start in starts])
    return cut


class AnswerLoss:
    """The loss of a step, a pure function of its number: cross-entropy of answers, sampled uniformly."""

    def __init__(self, llm: T5ForConditionalGeneration, tokenizer: PreTrainedTokenizerFast, seed: int) -> None:
        self.llm = llm
        self.tokenizer = tokenizer
        self.seed = seed
        self.group = -1
        self.pairs: list[Pair] = []
        self.order: list[int] = []

    def batch(self, step: int) -> list[Pair]:
        """A step's pairs, of similar lengths."""
        group, place = divmod(step, GROUP)
        if group != self.group:
            random = np.random.default_rng(derive_seed("t5", self.seed, group))
            chats = pairs(encode(self.tokenizer, [draw_corpus(random) for _ in range(GROUP * BATCH)]))
            answers = [pair for chat in chats for pair in chat]
            chosen = random.permutation(len(answers))[: GROUP * BATCH]
            self.pairs = sorted((answers[number] for number in chosen), key=lambda pair: len(pair[0]))
            self.order = [int(number) for number in random.permutation(GROUP)]
            self.group = group
        first = self.order[place] * BATCH
        return self.pairs[first : first + BATCH]

    def __call__(self, step: int) -> Tensor:
        read, written = zip(*self.batch(step), strict=True)
        ids, labels = _padded(read, PAD), _padded(written, IGNORED)
        output = self.llm(inputs_embeds=self._noisy(ids), attention_mask=ids != PAD, labels=labels)
        loss: Tensor = output.loss
        return loss

    def _noisy(self, ids: Tensor) -> Tensor:
        """(B, L, E) embeddings with noise on words, since projected media don't equal word embeddings."""
        table: Tensor = self.llm.get_input_embeddings().weight
        embeddings: Tensor = functional.embedding(ids, table)
        scale = NOISE * torch.rand(len(ids), 1, 1) * table.detach().square().mean().sqrt()
        return embeddings + scale * torch.randn_like(embeddings) * (ids >= len(SPECIAL))[..., None]


def _padded(rows: Sequence[Sequence[int]], value: int) -> Tensor:
    ids = torch.full((len(rows), max(map(len, rows))), value)
    for row, own in zip(ids, rows, strict=True):
        row[: len(own)] = torch.tensor(own)
    return ids


@torch.no_grad()
def reply(llm: T5ForConditionalGeneration, tokenizer: PreTrainedTokenizerFast, chats: Sequence[Chat]) -> list[str]:
    """Greedy answers to chats that end with the user's turn."""
    model: Any = llm  # the type hints of generate() fit no model
    answers: list[str] = []
    for first in range(0, len(chats), 100):
        texts: Any = tokenizer.apply_chat_template(
            list(chats[first : first + 100]), tokenize=False, add_generation_prompt=True
        )
        ids = _padded(tokenizer(texts, add_special_tokens=False)["input_ids"], PAD)
        written = model.generate(input_ids=ids, attention_mask=(ids != PAD).long())
        answers += tokenizer.batch_decode(written, skip_special_tokens=True)
    return answers


def train(out: Path, effort: float = 1.0, seed: int = 0, scratch: Path | None = None) -> dict[str, float]:
    """Trains the LLM from scratch, as :func:`isthmus.pocket.experts.language.llama.train` does."""
    torch.manual_seed(seed)
    tokenizer = build_tokenizer()
    llm = build_llm(tokenizer)
    fit_and_save("t5", llm, tokenizer, AnswerLoss(llm, tokenizer, seed), out, STEPS * effort, seed, scratch)
    return measure(lambda chats: reply(llm, tokenizer, chats)) | {"parameters": float(parameter_count([llm]))}


if __name__ == "__main__":
    run(train, out="checkpoints/pocket-t5", scratch=None)
