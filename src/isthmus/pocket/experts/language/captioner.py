"""A small Llama for a user's captions: trained to write a caption from its shuffled words, in place of a medium."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.random import Generator as Random

from isthmus.data.formats.captions import instructions
from isthmus.data.sampling.seeds import derive_seed
from isthmus.pocket.experts.fitting import fit, parameter_count
from isthmus.pocket.experts.language.llama import Chat, ChatLoss, build_llm, build_tokenizer, reply
from isthmus.pocket.own.captioned import CaptionedSet, words_of
from isthmus.types import Modality

STEPS, LEARNING_RATE = 1200, 2e-3
LEFT_OUT = 0.25
"""The largest share of a caption's words that are left out of a prompt, since projected media won't encode them all."""


def drawn_chat(captions: dict[Modality, tuple[str, ...]], random: Random) -> Chat:
    """A chat: a caption's words in random order, some left out, an instruction of its modality, and the caption."""
    modality = list(captions)[random.choice(len(captions), p=_shares(captions))]
    caption = captions[modality][random.integers(len(captions[modality]))]
    words = caption.split()
    kept = random.random(len(words)) >= random.uniform(0, LEFT_OUT)
    prompt_words = [words[place] for place in random.permutation(len(words)) if kept[place]]
    asked = instructions(modality, "describe")
    instruction = asked[random.integers(len(asked))]
    return _chat([*prompt_words, instruction], caption)


def _shares(captions: dict[Modality, tuple[str, ...]]) -> np.ndarray:
    sizes = np.array([len(own) for own in captions.values()], dtype=float)
    shares: np.ndarray = sizes / sizes.sum()
    return shares


def _chat(prompt_words: Sequence[str], caption: str) -> Chat:
    return [{"role": "user", "content": " ".join(prompt_words)}, {"role": "assistant", "content": caption}]


def train(
    out: Path, captioned: CaptionedSet, effort: float = 1.0, seed: int = 0, scratch: Path | None = None
) -> dict[str, float]:
    """Trains the LLM from scratch on the training captions, saves it with its tokenizer, and measures it.

    Each word of the training captions is a token; others fall back to characters, and those to bytes.

    Args:
        out: the folder to write.
        captioned: the source of captions.
        effort: scales the steps and the captions that are measured.
        seed: of weights and text.
        scratch: folder for snapshots of an interrupted training; None for none.

    Returns:
        ``repeated``: the share of test captions that are reproduced from their words, and ``parameters``.
    """
    torch.manual_seed(seed)
    captions = {modality: captioned.captions(modality) for modality in captioned.modalities}
    asked = [line for modality in captions for line in instructions(modality, "describe")]
    tokenizer = build_tokenizer(words_of([*asked, *(one for own in captions.values() for one in own)]))
    llm = build_llm(tokenizer)
    fitted = fit(
        "llama",
        llm,
        ChatLoss(llm, tokenizer, seed, partial(drawn_chat, captions)),
        max(2, round(STEPS * effort)),
        LEARNING_RATE,
        average=0.99,
        snapshot=scratch / "llama.pt" if scratch else None,
        seed=seed,
    )
    llm.load_state_dict(fitted.state_dict())
    llm.eval().save_pretrained(out)
    tokenizer.save_pretrained(out)
    prompts, expected = [], []
    random = np.random.default_rng(derive_seed("repeated", seed))
    for modality in captions:
        for caption in captioned.pool(modality, "test").captions[: max(int(200 * min(effort, 1.0)), 10)]:
            wordings = instructions(modality, "describe")
            instruction = wordings[random.integers(len(wordings))]
            prompts.append(_chat([*caption.split(), instruction], "")[:1])
            expected.append(" ".join(caption.lower().split()))
    right = sum(own == one for own, one in zip(reply(llm, tokenizer, prompts), expected, strict=True))
    return {"repeated": right / len(expected), "parameters": float(parameter_count([llm]))}
