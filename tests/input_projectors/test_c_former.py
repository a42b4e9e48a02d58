"""The C-Former's projector beside transformers' own BERT: the same numbers, what is hidden, and folders it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import BertModel

from isthmus.frozen import shapes_only
from isthmus.input_projectors import CFormerProjector
from isthmus.types import Features

SIZES: dict[str, Any] = {"width": 12, "layers": 2, "heads": 2, "feed_forward": 16, "max_positions": 64}
SPEECH, LLM = 6, 8


def features() -> Features:
    tokens = torch.randn(3, 5, SPEECH, generator=torch.Generator().manual_seed(0))
    return Features(tokens, torch.arange(5) < torch.tensor([[5], [2], [1]]))


def test_equals_the_librarys_own_bert(bert: Path) -> None:
    bridge = CFormerProjector(SPEECH, LLM, **SIZES, checkpoint=bert).eval()
    library = BertModel.from_pretrained(bert, add_pooling_layer=False).eval()
    given = features()
    found, mask = bridge(given)
    states = bridge.project_in(given.tokens).relu()
    heard = library(inputs_embeds=states, attention_mask=given.mask.long()).last_hidden_state
    expected = bridge.project_out(heard).relu()
    assert mask is given.mask and found.shape == (3, 5, LLM)
    torch.testing.assert_close(found[mask], expected[mask], atol=1e-6, rtol=1e-5)
    assert (found >= 0).all() and (found > 0).any()
    assert {key: tensor.shape for key, tensor in bridge.bert.state_dict().items()} == {
        key: tensor.shape for key, tensor in library.state_dict().items() if "word_embeddings" not in key
    }


def test_what_is_hidden_changes_nothing(bert: Path) -> None:
    bridge = CFormerProjector(SPEECH, LLM, **SIZES, checkpoint=bert).eval()
    given = features()
    found, mask = bridge(given)
    spoilt, _ = bridge(Features(given.tokens.masked_fill(~given.mask[..., None], torch.nan), given.mask))
    torch.testing.assert_close(spoilt[mask], found[mask])
    for row, count in enumerate((5, 2, 1)):
        alone, _ = bridge(Features(given.tokens[row : row + 1, :count], torch.ones(1, count, dtype=torch.bool)))
        torch.testing.assert_close(alone[0], found[row, :count], atol=1e-6, rtol=1e-5)


def test_order_is_heard() -> None:
    bridge = CFormerProjector(SPEECH, LLM, **SIZES).eval()
    given = features()
    turned, _ = bridge(Features(given.tokens[:1].flip(1), given.mask[:1]))
    found, _ = bridge(Features(given.tokens[:1], given.mask[:1]))
    assert not torch.allclose(turned.flip(1), found, atol=1e-4)


def test_every_parameter_learns_and_only_what_was_heard_counts() -> None:
    torch.manual_seed(1)
    bridge = CFormerProjector(SPEECH, LLM, **SIZES)
    given = features()
    given.tokens.requires_grad_()
    projected, mask = bridge(given)
    projected[mask].square().sum().backward()
    assert all(parameter.grad is not None for parameter in bridge.parameters())
    assert given.tokens.grad is not None and not given.tokens.grad[~given.mask].any()


def test_positions_are_tokens_up_to_berts(bert: Path) -> None:
    bridge = CFormerProjector(SPEECH, LLM, **SIZES)
    assert bridge.positions(1) == 1 and bridge.positions(64) == 64
    with pytest.raises(ValueError, match="a medium of up to 65 tokens; expected at most max_positions 64"):
        bridge.positions(65)


@pytest.mark.parametrize(
    ("sizes", "said"),
    [
        ({"layers": 3}, r"num_hidden_layers 2, and its layers 3"),
        ({"heads": 3}, r"num_attention_heads 2, and its heads 3"),
        ({"width": 10, "feed_forward": 20}, r"hidden_size 12, and its width 10; intermediate_size 16"),
        ({"max_positions": 32}, r"max_position_embeddings 64, and its max_positions 32"),
    ],
)
def test_other_sizes_are_one_clear_error(bert: Path, sizes: dict[str, int], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        CFormerProjector(SPEECH, LLM, **(SIZES | sizes), checkpoint=bert)


def test_folders_without_a_whole_bert_are_refused(bert: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no such folder; expected a BERT"):
        CFormerProjector(SPEECH, LLM, **SIZES, checkpoint=tmp_path / "absent")
    (tmp_path / "config.json").write_bytes((bert / "config.json").read_bytes())
    with pytest.raises(ValueError, match="it can't be read as its BERT"):
        CFormerProjector(SPEECH, LLM, **SIZES, checkpoint=tmp_path)
    stored = (bert / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(stored[: len(stored) // 2])
    with pytest.raises(ValueError, match="it can't be read as its BERT"):
        CFormerProjector(SPEECH, LLM, **SIZES, checkpoint=tmp_path)
    with pytest.raises(ValueError, match="found layers 0"):
        CFormerProjector(SPEECH, LLM, **(SIZES | {"layers": 0}))
    with pytest.raises(ValueError, match="width 12 and 5 heads"):
        CFormerProjector(SPEECH, LLM, **(SIZES | {"heads": 5}))


def test_shapes_are_known_without_weights(bert: Path) -> None:
    with shapes_only():
        bridge = CFormerProjector(SPEECH, LLM, **SIZES, checkpoint=bert)
    assert all(parameter.is_meta for parameter in bridge.parameters())


def test_default_sizes_are_x_llms() -> None:
    with torch.device("meta"):
        bridge = CFormerProjector(512, 4096)
    # BERT-base without its words (30,522 x 768) and pooler (590,592): 109,482,240 in all.
    bert = 109_482_240 - 30_522 * 768 - 590_592
    assert sum(p.numel() for p in bridge.parameters()) == bert + 513 * 768 + 769 * 4096
