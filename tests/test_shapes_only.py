"""What is built in shapes alone is what is built with weights: keys, shapes and types, with no weights file there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_pipelines import KINDS
from tiny_world import tiny_experts, tiny_model

from isthmus.encoders.imagebind.encoder import ImageBind
from isthmus.encoders.point_bert.encoder import PointBert
from isthmus.frozen import FrozenExpert, is_shapes_only, shapes_only

MAKERS: dict[str, Callable[[Path], FrozenExpert]] = {
    "imagebind": ImageBind,
    "point_bert": PointBert,
    **{name: kind for name, kind in KINDS.items()},
    "half": lambda path: KINDS["image"](path, dtype="bfloat16"),
}


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    found = tiny_experts(tmp_path_factory.mktemp("experts"))
    return found | {"half": found["image"]}


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same folders with their configuration files alone."""
    found = tiny_experts(tmp_path_factory.mktemp("bare"))
    for folder in found.values():
        for file in [*folder.rglob("*.safetensors"), *folder.rglob("*.bin"), *folder.rglob("*.pt")]:
            file.unlink()
    return found | {"half": found["image"]}


def shapes(module: torch.nn.Module) -> dict[str, Any]:
    return {name: (tensor.shape, tensor.dtype) for name, tensor in module.state_dict().items()}


@pytest.mark.parametrize("expert", MAKERS)
def test_an_expert_without_weights_has_their_shapes(expert: str, paths: dict[str, Path], bare: dict[str, Path]) -> None:
    whole, empty = MAKERS[expert](paths[expert]), MAKERS[expert](bare[expert])
    whole.load()
    with pytest.raises(ValueError):
        MAKERS[expert](bare[expert]).load()  # outside, missing weights stay an error
    with shapes_only():
        empty.to("meta")
        empty.load()
    assert shapes(empty) == shapes(whole) and len(shapes(whole)) > 5
    assert empty.is_loaded and {tensor.device.type for tensor in empty.state_dict().values()} == {"meta"}
    assert not any(parameter.requires_grad for parameter in empty.parameters())


def test_a_model_without_weights_has_the_same_parts(paths: dict[str, Path], bare: dict[str, Path]) -> None:
    whole, empty = tiny_model(paths), tiny_model(bare)
    whole.configure_model()
    with shapes_only():
        empty.configure_model()
    found, expected = (
        {part: {name: tensor.shape for name, tensor in own.items()} for part, own in model.parts().items()}
        for model in (empty, whole)
    )
    assert found == expected
    assert all(parameter.is_meta for parameter in empty.parameters())


def test_it_ends_with_its_block_even_after_an_error() -> None:
    with pytest.raises(KeyError), shapes_only():
        assert is_shapes_only() and torch.empty(2).is_meta
        raise KeyError
    assert not is_shapes_only() and not torch.empty(2).is_meta
