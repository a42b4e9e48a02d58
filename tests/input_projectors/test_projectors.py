"""Linear and MLP bridges: shapes, order, masks, and what they refuse."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from isthmus.input_projectors import MLP, Linear
from isthmus.input_projectors.base import InputProjector
from isthmus.types import Features

PROJECTORS: list[type[InputProjector]] = [Linear, MLP]


def features(batch: int, tokens: int, width: int) -> Features:
    mask = torch.arange(tokens) < torch.randint(1, tokens + 1, (batch, 1))
    return Features(torch.randn(batch, tokens, width), mask)


@pytest.mark.parametrize("projector", PROJECTORS)
@given(tokens=st.integers(1, 5), times=st.integers(1, 4))
def test_positions_mask_and_output_agree(projector: type[Linear], tokens: int, times: int) -> None:
    bridge = projector(6, 8, positions_per_token=times)
    given_features = features(3, tokens, 6)
    projected, mask = bridge(given_features)
    assert projected.shape == (3, bridge.positions(tokens), 8)
    assert mask.shape == projected.shape[:2]
    assert (mask.sum(1) == given_features.mask.sum(1) * times).all()


def test_a_token_fills_neighbouring_positions_in_the_order_of_the_weights() -> None:
    bridge = Linear(6, 8, positions_per_token=3)
    given_features = features(2, 4, 6)
    projected, _ = bridge(given_features)
    for token in range(4):
        for place in range(3):
            rows = slice(8 * place, 8 * (place + 1))
            expected = given_features.tokens[:, token] @ bridge.layer.weight[rows].T + bridge.layer.bias[rows]
            torch.testing.assert_close(projected[:, 3 * token + place], expected)


@pytest.mark.parametrize("projector", PROJECTORS)
def test_tokens_do_not_see_each_other(projector: type[Linear]) -> None:
    bridge = projector(6, 8, positions_per_token=2)
    given_features = features(1, 4, 6)
    whole, _ = bridge(given_features)
    alone, _ = bridge(Features(given_features.tokens[:, 2:3], given_features.mask[:, 2:3]))
    torch.testing.assert_close(whole[:, 4:6], alone)


def test_mlp_has_the_asked_layers() -> None:
    bridge = MLP(6, 8, hidden=10, depth=3, activation="silu")
    widths = [(layer.in_features, layer.out_features) for layer in bridge.layers if isinstance(layer, torch.nn.Linear)]
    assert widths == [(6, 10), (10, 10), (10, 8)]
    assert sum(isinstance(layer, torch.nn.SiLU) for layer in bridge.layers) == 2
    deep, flat = MLP(6, 8, depth=1), Linear(6, 8)
    deep.layers[0].load_state_dict(flat.layer.state_dict())
    given_features = features(2, 3, 6)
    torch.testing.assert_close(deep(given_features)[0], flat(given_features)[0])


def test_full_size_linear_has_next_gpts_parameters() -> None:
    with torch.device("meta"):
        bridge = Linear(1024, 4096)
    assert sum(parameter.numel() for parameter in bridge.parameters()) == 1024 * 4096 + 4096


@pytest.mark.parametrize("projector", PROJECTORS)
@pytest.mark.parametrize("fault", [{"in_width": 0}, {"out_width": 0}, {"positions_per_token": 0}])
def test_sizes_below_one_are_refused(projector: type[Linear], fault: dict[str, int]) -> None:
    (name,) = fault
    with pytest.raises(ValueError, match=f"found {name} 0; expected at least 1"):
        projector(**({"in_width": 6, "out_width": 8} | fault))


def test_unknown_activation_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown activation 'tanh'; known: gelu, relu, silu"):
        MLP(6, 8, activation="tanh")  # type: ignore[arg-type]
