"""The P-Former beside transformers' BERT, its two own losses against plain recomputations, and its faults."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from isthmus.input_projectors.p_former import PFormer, contrastive_loss, vocabulary_loss

TEXTS = ["a red seven", "two", "the tone of a five, and then some more words"]


def test_prompts_and_features_come_from_berts_cls_state(bert: Path) -> None:
    from transformers import AutoTokenizer, BertModel

    torch.manual_seed(0)
    teacher = PFormer(10, bert, positions=3, feature_width=5, max_tokens=16).eval()
    ids, mask = teacher.tokenize(TEXTS)
    assert ids.shape == mask.shape == (3, 16) and mask.sum(1).tolist() == [13, 5, 16]
    prompts, features = teacher(ids, mask)
    assert prompts.shape == (3, 3, 10) and features.shape == (3, 5)
    torch.testing.assert_close(features.norm(dim=-1), torch.ones(3))
    library = BertModel.from_pretrained(bert, add_pooling_layer=False).eval()
    tokenizer = AutoTokenizer.from_pretrained(bert)
    for row, text in enumerate(TEXTS):  # one by one: no padding
        encoded = tokenizer(text, truncation=True, max_length=16, return_tensors="pt")
        state = library(**encoded).last_hidden_state[0, 0]
        wide = teacher.split.weight @ state + teacher.split.bias
        for place in range(3):
            pooled = torch.tanh(teacher.pool[0](wide[12 * place : 12 * (place + 1)]))
            torch.testing.assert_close(prompts[row, place], teacher.project_out(pooled), rtol=1e-4, atol=1e-5)
        feature = teacher.feature(state)
        torch.testing.assert_close(features[row], feature / feature.norm(), rtol=1e-4, atol=1e-5)


def test_training_hides_a_share_of_the_words(bert: Path) -> None:
    teacher = PFormer(10, bert, positions=2, mask_share=0.25, max_tokens=64).train()
    seen: list[torch.Tensor] = []
    teacher.bert.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(kwargs["input_ids"].clone()), with_kwargs=True
    )
    ids, mask = teacher.tokenize(["x" * 60, "y" * 30] * 20)
    torch.manual_seed(0)
    teacher(ids, mask)
    hidden = seen[0] == teacher.tokenizer.mask_token_id
    assert torch.equal(seen[0][~hidden], ids[~hidden])
    assert not (hidden & ~mask).any() and not hidden[:, 0].any()
    assert 0.21 < float(hidden.sum() / mask[:, 1:].sum()) < 0.29
    teacher.eval()(ids, mask)
    assert torch.equal(seen[1], ids)


def test_contrastive_loss_is_smoothed_cross_entropy_against_the_others() -> None:
    torch.manual_seed(0)
    features = torch.nn.functional.normalize(torch.randn(4, 6), dim=-1)
    expected = 0.0
    for row in range(4):
        scores = [float(features[row] @ features[other]) / 0.07 for other in range(4)]
        total = math.log(sum(math.exp(score) for score in scores))
        for other, score in enumerate(scores):
            expected += (0.9 * (other == row) + 0.1 / 4) * (total - score) / 4
    assert float(contrastive_loss(features, torch.tensor(0.07))) == pytest.approx(expected, rel=1e-5)


@given(chunk=st.integers(1, 9), seed=st.integers(0, 20))
def test_vocabulary_loss_is_the_distance_to_the_nearest_word(chunk: int, seed: int) -> None:
    random = torch.Generator().manual_seed(seed)
    prompts = torch.randn(2, 3, 5, generator=random, requires_grad=True)
    words = torch.randn(11, 5, generator=random, requires_grad=True)
    found = vocabulary_loss(prompts, words, chunk)
    nearest = torch.cdist(prompts, words).argmin(-1)
    torch.testing.assert_close(found, (prompts - words[nearest]).square().mean((1, 2)), rtol=1e-4, atol=1e-6)
    (gradient,) = torch.autograd.grad(found.sum(), prompts)
    torch.testing.assert_close(gradient, 2 * (prompts - words[nearest]).detach() / 15, rtol=1e-4, atol=1e-6)
    assert words.grad is None


def test_initial_values(bert: Path) -> None:
    def state(seed: int, **options: Any) -> dict[str, torch.Tensor]:
        torch.manual_seed(seed)
        return PFormer(10, bert, positions=2, **options).state_dict()

    first, again, other = state(1, pretrained=False), state(1, pretrained=False), state(2, pretrained=False)
    assert all(torch.equal(first[name], again[name]) for name in first)
    name = "bert.encoder.layer.0.attention.self.query.weight"
    assert not torch.equal(first[name], other[name])
    assert torch.equal(state(1)[name], state(2)[name]) and not torch.equal(state(1)[name], first[name])
    assert float(first["temperature"]) == pytest.approx(0.07)


def test_runs_in_bfloat16_under_autocast(bert: Path) -> None:
    teacher = PFormer(10, bert, positions=2).eval()
    ids, mask = teacher.tokenize(TEXTS)
    exact, _ = teacher(ids, mask)
    with torch.autocast("cpu", torch.bfloat16):
        prompts, features = teacher(ids, mask)
    torch.testing.assert_close(prompts.float(), exact, rtol=0.1, atol=0.1)
    assert contrastive_loss(features, teacher.temperature).dtype == torch.float32


def test_faults_are_clear(bert: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no such folder; expected a BERT and its tokenizer"):
        PFormer(10, tmp_path / "absent")
    with pytest.raises(ValueError, match="found positions 0"):
        PFormer(10, bert, positions=0)
    with pytest.raises(ValueError, match="temperature 0"):
        PFormer(10, bert, temperature=0)
    copy = tmp_path / "bert"
    shutil.copytree(bert, copy)
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 3}))
    with pytest.raises(ValueError, match="found no weights for 16 tensors"):
        PFormer(10, copy)
    (copy / "config.json").write_text(json.dumps(config | {"vocab_size": 90}))
    with pytest.raises(ValueError, match="vocab_size 90"):
        PFormer(10, copy, pretrained=False)
    (copy / "config.json").write_text(json.dumps(config))
    weights = copy / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"bert/model\.safetensors: can't be read as safetensors .* again"):
        PFormer(10, copy)
