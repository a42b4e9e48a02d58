"""A generator that hears tokens and a pooled part, through the whole model: built, aligned, denoised, saved, heard."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from model.talks import medium
from newer_pipelines import write_newer
from tiny_world import SIGNALS

from isthmus.generators.image.stable_diffusion_xl import StableDiffusionXL
from isthmus.model import OutputSide
from isthmus.output_projectors import MLP
from isthmus.output_projectors.pooled import WithPooled
from isthmus.types import Modality, SignalBatch

IMAGE = Modality.IMAGE
E = 16


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pooled") / "xl"
    write_newer("xl", folder)
    return folder


@pytest.fixture
def side(folder: Path) -> OutputSide:
    side = OutputSide([StableDiffusionXL(folder, num_inference_steps=2)], {"image": partial(MLP, hidden=8)})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        side.build(E, {IMAGE: SIGNALS["image"]})
    return side


def states(runs: int) -> torch.Tensor:
    return torch.randn(runs, SIGNALS["image"], E, generator=torch.Generator().manual_seed(3))


def test_the_projector_begins_as_it_would_without_a_pooled_part(side: OutputSide) -> None:
    projector = side.projectors[IMAGE]
    assert isinstance(projector, WithPooled)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        alone = MLP(E, SIGNALS["image"], (8, 28), hidden=8)
    assert torch.equal(projector.tokens(states(2)), alone(states(2)))


def test_both_parts_are_projected_aligned_and_trained(side: OutputSide) -> None:
    heard, target = side({IMAGE: states(2)})[IMAGE], side.target(IMAGE, ["cat", "a dog"])
    assert heard.tokens.shape == target.tokens.shape == (2, 8, 28)
    assert heard.pooled is not None and target.pooled is not None
    assert heard.pooled.shape == target.pooled.shape == (2, 10)
    mse = (heard.tokens - target.tokens).square().mean((1, 2)) + (heard.pooled - target.pooled).square().mean(1)
    distances, cosines = side.distance(IMAGE, ["cat", "a dog"], heard, "mse")
    torch.testing.assert_close(distances, mse)
    assert not cosines.requires_grad
    norm = (heard.tokens - target.tokens).norm(dim=-1).mean(1) + (heard.pooled - target.pooled).norm(dim=-1)
    torch.testing.assert_close(side.distance(IMAGE, ["cat", "a dog"], heard, "norm")[0], norm)
    torch.testing.assert_close(side.distance(IMAGE, ["cat", "a dog"], target)[1], torch.tensor(2.0))
    mse.sum().backward()
    for name, parameter in side.projectors[IMAGE].named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


def test_denoising_trains_both_parts_of_the_runs_that_bring_a_medium(side: OutputSide) -> None:
    prepared = side.preparers()[IMAGE](medium("image", 4))
    runs = SignalBatch(
        rows=torch.zeros(2, dtype=torch.int64),
        starts=torch.zeros(2, dtype=torch.int64),
        captions=["nothing", "four"],
        contents={name: tensor[None] for name, tensor in prepared.items()},
        content_runs=torch.tensor([1]),
        seeds=torch.tensor([12, 13]),
    )
    heard = side({IMAGE: states(2)})[IMAGE]
    [error] = side.denoising(IMAGE, heard, runs)
    [alone] = side.generator(IMAGE).denoising_loss(runs.contents, heard[1:2], torch.tensor([13]))
    torch.testing.assert_close(error, alone)
    error.backward()
    for name, parameter in side.projectors[IMAGE].named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


def test_media_follow_the_pooled_part_and_come_back_from_the_saved_state(side: OutputSide, folder: Path) -> None:
    [made] = side.generate(IMAGE, states(1), [5])
    saved = {name: tensor.clone() for name, tensor in side.projectors[IMAGE].state_dict().items()}
    assert {"pooled.norm.weight", "pooled.norm.bias", "pooled.layer.weight", "pooled.layer.bias"} <= set(saved)
    other = OutputSide([StableDiffusionXL(folder, num_inference_steps=2)], {"image": partial(MLP, hidden=8)})
    other.build(E, {IMAGE: SIGNALS["image"]})
    other.projectors[IMAGE].load_state_dict(saved)
    np.testing.assert_array_equal(other.generate(IMAGE, states(1), [5])[0].array, made.array)
    torch.nn.init.normal_(other.projectors[IMAGE].get_parameter("pooled.layer.weight"), std=3.0)
    assert not np.array_equal(other.generate(IMAGE, states(1), [5])[0].array, made.array)
