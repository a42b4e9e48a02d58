"""The P-Former's BERT: its tokenizer, and that the teacher starts from what is written."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from isthmus.input_projectors import PFormer
from isthmus.pocket.experts.language import bert
from isthmus.pocket.language import draw_corpus


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bert")
    bert.write(folder)
    return folder


def test_every_word_of_the_world_is_one_piece_and_any_other_is_spelt() -> None:
    tokenizer = bert.build_tokenizer()
    random = np.random.default_rng(1)
    texts = [message["content"] for _ in range(100) for message in draw_corpus(random)]
    for text in texts:
        words = text.translate(str.maketrans({mark: f" {mark} " for mark in "?,.:"})).split()
        assert tokenizer.tokenize(text) == words
    assert tokenizer.tokenize("Zebra 7!") == ["z", "##e", "##b", "##r", "##a", "7", "!"]
    assert tokenizer.unk_token_id not in tokenizer("a Zebra, seven")["input_ids"]


def test_the_teacher_starts_from_it_without_weights(written: Path) -> None:
    assert not list(written.glob("*.safetensors"))
    teacher = PFormer(16, written, positions=3, pretrained=False).eval()
    prompts, features = teacher(*teacher.tokenize(["a red seven", "the tone of two"]))
    assert prompts.shape == (2, 3, 16) and not torch.equal(prompts[0], prompts[1])
    torch.testing.assert_close(features.norm(dim=1), torch.ones(2))
    assert (teacher.bert.config.hidden_size, teacher.bert.config.vocab_size) == (bert.WIDTH, len(teacher.tokenizer))
    with pytest.raises(ValueError, match="can't be read as a BERT"):
        PFormer(16, written)


def test_the_shipped_one_is_what_the_command_writes(written: Path, repository: Path) -> None:
    shipped = repository / "checkpoints" / "pocket" / "bert"

    def contents(folder: Path) -> dict[str, object]:
        found = {file.name: json.loads(file.read_text(encoding="utf-8")) for file in folder.iterdir()}
        del found["config.json"]["transformers_version"]
        return found

    assert contents(shipped) == contents(written)
