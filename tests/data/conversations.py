"""Real tokenizers trained on the spot, a collator whose outputs can be told by eye, and conversations to feed it."""

from __future__ import annotations

import json
import random
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from isthmus.data.batching.collate import Collator
from isthmus.data.conversations.planning import Planner
from isthmus.data.conversations.schema import Conversation, MediumItem, Message, TextItem
from isthmus.data.conversations.sources import ConversationSource
from isthmus.types import Media, Modality

CHATML = (
    "{{ bos_token }}{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}{{ eos_token }}\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
"""A role token for each turn, the end token after it, and a line break that isn't part of the turn."""

VICUNA = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}USER: {{ m.content }} "
    "{% elif m.role == 'assistant' %}ASSISTANT: {{ m.content }}{{ eos_token }}"
    "{% else %}{{ raise_exception('no system turn') }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)
"""Vicuna's shape: plain words for roles, a prompt that ends before the answer's space, no system turn."""

REWRITING = (
    "{% for m in messages %}{{ m.role }}{% if loop.last %} (last){% endif %}: {{ m.content }}{{ eos_token }}"
    "{% endfor %}{% if add_generation_prompt %}assistant (last): {% endif %}"
)
"""Writes earlier turns anew when a later one follows."""

SPECIAL = ["<s>", "</s>", "<pad>", "<|user|>", "<|assistant|>", "<|system|>"]


def corpus() -> list[str]:
    words = "a the red seven moving left what is this tone of image draw it please yes no ASSISTANT USER : . ?".split()
    draw = random.Random(0)
    return [" ".join(draw.choices(words, k=12)) for _ in range(200)]


def byte_level(template: str = CHATML) -> PreTrainedTokenizerFast:
    """A byte-level BPE, as in Qwen and Llama-3: it can write any text."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(corpus(), trainer)
    return wrapped(tokenizer, template)


def metaspace(template: str = VICUNA) -> PreTrainedTokenizerFast:
    """A sentencepiece-like BPE with byte fallback and a leading space, as in Llama-2 and Vicuna."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    special = ["<unk>", *SPECIAL, *[f"<0x{byte:02X}>" for byte in range(256)]]
    tokenizer.train_from_iterator(
        corpus(), trainers.BpeTrainer(vocab_size=600, special_tokens=special, show_progress=False)
    )
    # Bytes have to be pieces of the vocabulary, and are no special tokens.
    described = json.loads(tokenizer.to_str())
    described["added_tokens"] = [token for token in described["added_tokens"] if not token["content"].startswith("<0x")]
    return wrapped(Tokenizer.from_str(json.dumps(described)), template)


def wrapped(tokenizer: Tokenizer, template: str) -> PreTrainedTokenizerFast:
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="<pad>")
    fast.chat_template = template
    return fast


def preprocess(medium: Media) -> dict[str, Tensor]:
    """What stands for an encoder here: the mean, and a tensor whose length says how many positions are wanted."""
    return {"mean": torch.tensor(float(medium.array.mean())), "size": torch.tensor(medium.array.shape[0])}


def positions(modality: Modality, inputs: Any) -> int:
    """An image takes as many positions as it has rows, everything else three."""
    return int(inputs["size"]) if modality is Modality.IMAGE else 3


def make_collator(planner: Planner, **changes: Any) -> Collator:
    settings: dict[str, Any] = {
        "preprocess": {Modality.IMAGE: preprocess, Modality.AUDIO: preprocess},
        "positions": positions,
        "outputs": [Modality.IMAGE, Modality.AUDIO],
        "prepare": {Modality.IMAGE: lambda medium: {"latent": torch.full((2, 2), float(medium.array.mean()))}},
        "max_length": 512,
    }
    return Collator(planner, **(settings | changes))


def picture(value: int, rows: int = 2) -> Media:
    return Media(Modality.IMAGE, np.full((rows, 4, 3), value, np.uint8))


def tone(value: float = 0.5) -> Media:
    return Media(Modality.AUDIO, np.full(16, value, np.float32), rate=16000.0)


def user(*items: TextItem | MediumItem | str) -> Message:
    return Message("user", tuple(TextItem(item) if isinstance(item, str) else item for item in items))


def assistant(*items: TextItem | MediumItem | str) -> Message:
    return Message("assistant", user(*items).content)


class Numbers(ConversationSource):
    """Item i says so; some items are bad."""

    def __init__(self, name: str, size: int, bad: tuple[int, ...] = ()) -> None:
        self.name = name
        self.size = size
        self.bad = bad

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> Conversation:
        if index in self.bad:
            return Conversation((user("what is it?"), Message("robot", ())))  # type: ignore[arg-type]
        medium = MediumItem(Modality.IMAGE, picture(index % 256), "a number")
        return Conversation((user("what is it?", medium), assistant(f"{self.name} {index}", medium)), {"index": index})
