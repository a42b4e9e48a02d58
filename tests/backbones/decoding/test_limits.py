"""The context of an LLM as its configuration says it, and how a prompt and its answer share it."""

from __future__ import annotations

from typing import Any

import pytest
from transformers import GPT2Config, LlamaConfig, MptConfig, T5Config

from isthmus.backbones.base import Sampling
from isthmus.backbones.decoding.limits import answer_limits, context_of, prompt_limits
from isthmus.types import Modality
from isthmus.vocabulary import Vocabulary

IMAGE, VIDEO = Modality.IMAGE, Modality.VIDEO
LLAMA_3: dict[str, Any] = {
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}
VOCABULARY = Vocabulary(40, {"image": 2, "video": 3})


def llama(positions: int, **rope: Any) -> LlamaConfig:
    return LlamaConfig(max_position_embeddings=positions, rope_parameters={"rope_theta": 1e4, **rope} if rope else None)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (llama(4096), 4096),
        (llama(4096, rope_type="linear", factor=4.0), 16384),
        (llama(2048, rope_type="dynamic", factor=2.0), 4096),
        (llama(32768, rope_type="yarn", factor=4.0, original_max_position_embeddings=32768), 131072),
        (llama(163840, rope_type="yarn", factor=40.0, original_max_position_embeddings=4096), 163840),
        (llama(131072, rope_type="llama3", **LLAMA_3), 131072),
        (GPT2Config(n_positions=300), 300),
        (MptConfig(max_seq_len=2048), 2048),
        (T5Config(), None),
    ],
)
def test_the_context_of_an_llm(config: Any, expected: int | None) -> None:
    assert context_of(config) == expected
    assert context_of(config, 300) == 300


def test_a_context_can_only_be_lowered() -> None:
    with pytest.raises(ValueError, match=r"found context 600; the LLM has 512 positions\. Fix: lower it"):
        context_of(llama(512), 600)
    with pytest.raises(ValueError, match="found context 0; expected at least 1"):
        Sampling(context=0)


def test_a_prompt_leaves_its_answer_room() -> None:
    limits = prompt_limits(512, 64, [], [IMAGE, VIDEO], VOCABULARY)
    assert (limits.full, limits.longest) == (512 - 64 - 2, 512 - 1 - 2)  # a video's run may begin at the last token
    owed = prompt_limits(512, 64, [IMAGE, IMAGE], [IMAGE], VOCABULARY)
    assert (owed.full, owed.longest) == (512 - 64 - 5, 512 - 1 - 5)
    assert prompt_limits(100, 4000, [], [], VOCABULARY).full == 75, "an answer's words keep a quarter at most"
    assert prompt_limits(None, 64, [IMAGE], [IMAGE], VOCABULARY).longest is None
    with pytest.raises(ValueError, match=r"context: found 6 positions; expected at least 7, since .* take 5"):
        prompt_limits(6, 4, [VIDEO], [VIDEO], VOCABULARY)


@pytest.mark.parametrize("owed", [[], [IMAGE], [VIDEO, IMAGE]])
def test_an_answer_to_the_longest_prompt_ends_within_the_context(owed: list[Modality]) -> None:
    longest = prompt_limits(50, 64, owed, [IMAGE, VIDEO], VOCABULARY).longest
    assert longest is not None
    assert answer_limits([longest, longest - 6], 64, [owed, owed], [IMAGE, VIDEO], VOCABULARY, 50) == [1, 7]
    with pytest.raises(ValueError, match=f"prompt 0: found {longest + 1} positions, of which the LLM has 50"):
        answer_limits([longest + 1], 64, [owed], [IMAGE, VIDEO], VOCABULARY, 50)
