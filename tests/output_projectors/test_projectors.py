"""Output bridges: shapes, NExT-GPT's size, learned queries, gradients, and what they refuse."""

import warnings

import pytest
import torch

from isthmus.output_projectors import MLP, TinyTransformer
from isthmus.output_projectors.base import OutputProjector

SMALL = {"width": 16, "encoder_layers": 2, "decoder_layers": 2, "heads": 2, "feed_forward": 32}


def build(projector: type[OutputProjector], condition: tuple[int, int] = (5, 6)) -> OutputProjector:
    return (
        TinyTransformer(8, 4, condition, **SMALL) if projector is TinyTransformer else MLP(8, 4, condition, hidden=16)
    )


@pytest.mark.parametrize("projector", [TinyTransformer, MLP])
@pytest.mark.parametrize("condition", [(5, 6), (1, 7)])
def test_states_become_the_condition_shape(projector: type[OutputProjector], condition: tuple[int, int]) -> None:
    assert build(projector, condition)(torch.randn(3, 4, 8)).shape == (3, *condition)


@pytest.mark.parametrize("projector", [TinyTransformer, MLP])
def test_samples_do_not_see_each_other_and_every_signal_matters(projector: type[OutputProjector]) -> None:
    bridge = build(projector)
    states = torch.randn(3, 4, 8)
    whole = bridge(states)
    torch.testing.assert_close(whole[1:2], bridge(states[1:2]))
    for signal in range(4):
        moved = states.clone()
        moved[0, signal] = torch.randn(8)
        changed = (bridge(moved) - whole).abs().amax((1, 2))
        assert changed[0] > 1e-4 and changed[1:].max() < 1e-6


@pytest.mark.parametrize("projector", [TinyTransformer, MLP])
def test_every_parameter_learns(projector: type[OutputProjector]) -> None:
    bridge = build(projector)
    bridge(torch.randn(2, 4, 8)).square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in bridge.parameters())


def test_condition_tokens_differ_from_the_first_step_and_keep_apart() -> None:
    bridge = build(TinyTransformer)
    first = bridge(torch.randn(2, 4, 8))
    assert torch.cdist(first, first)[:, ~torch.eye(5, dtype=torch.bool)].min() > 1e-2
    with torch.no_grad():
        bridge.queries.zero_()  # NExT-GPT's initialisation: what the random one avoids
    equal = bridge(torch.randn(2, 4, 8))
    torch.testing.assert_close(equal, equal[:, :1].expand_as(equal))


def test_layers_start_from_different_weights() -> None:
    layers = build(TinyTransformer).transformer.encoder.layers
    assert not torch.equal(layers[0].linear1.weight, layers[1].linear1.weight)


def test_full_size_has_next_gpts_32_million_parameters() -> None:
    with torch.device("meta"):
        bridge = TinyTransformer(4096, 4, (77, 768))
    assert 31e6 < sum(parameter.numel() for parameter in bridge.parameters()) < 33e6


def test_blocks_are_pre_norm_and_nothing_warns() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        bridge = build(TinyTransformer)
        bridge.eval()(torch.randn(1, 4, 8))
    layers = [*bridge.transformer.encoder.layers, *bridge.transformer.decoder.layers]
    assert len(layers) == 4 and all(layer.norm_first for layer in layers)


@pytest.mark.parametrize("projector", [TinyTransformer, MLP])
def test_faults_are_named(projector: type[OutputProjector]) -> None:
    with pytest.raises(ValueError, match=r"found states \(2, 3, 8\); expected \(B, 4, 8\)"):
        build(projector)(torch.randn(2, 3, 8))
    with pytest.raises(ValueError, match=r"condition_shape \(5,\)"):
        projector(8, 4, (5,))
    with pytest.raises(ValueError, match="signals 0"):
        projector(8, 0, (5, 6))


def test_heads_must_divide_the_width() -> None:
    with pytest.raises(ValueError, match=r"width 16, heads 3.*heads that divide the width"):
        TinyTransformer(8, 4, (5, 6), width=16, heads=3)
