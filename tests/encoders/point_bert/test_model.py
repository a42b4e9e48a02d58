"""Point-BERT's architecture against the original code's tensors and the published checkpoints' layouts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from isthmus.encoders.point_bert.model import ULIP1, PointBertConfig, PointBertModel
from isthmus.encoders.point_bert.sampling import farthest_points, group_points, nearest_points


@pytest.fixture(scope="module", params=["pointbert_colored", "pointbert_xyz"])
def golden(request: pytest.FixtureRequest, golden_file: Callable[[str], Any]) -> Any:
    return golden_file(request.param)


@pytest.fixture(scope="module")
def model(golden: Any) -> PointBertModel:
    sizes = dict(golden.about["config"])
    del sizes["cls_dim"]  # a classifier that the encoder doesn't have
    colored = golden.about["cls"] == "PointTransformer_Colored"
    config = PointBertConfig(points=256, colored=colored, embed_dim=golden.about["embed_dim"], **sizes)
    model = PointBertModel(config).eval()
    model.load_state_dict(golden.state, strict=True)
    return model


def sorted_rows(neighbourhoods: Tensor) -> Tensor:
    """Each neighbourhood's points in lexicographic order."""
    flat = neighbourhoods.flatten(0, 1)
    ordered = [torch.stack(sorted(rows, key=lambda row: row.tolist())) for rows in flat]
    return torch.stack(ordered).view_as(neighbourhoods)


def test_autocast_leaves_neighbours_alone() -> None:
    cloud = torch.rand(1, 400, 3, generator=torch.Generator().manual_seed(0))
    expected, _ = group_points(cloud, 16, 8)
    with torch.autocast("cpu", torch.bfloat16):
        found, _ = group_points(cloud, 16, 8)
    assert torch.equal(sorted_rows(found), sorted_rows(expected))


@torch.no_grad()
def test_every_stored_intermediate(
    golden: Any, model: PointBertModel, assert_close: Callable[[Tensor, Tensor, str], None]
) -> None:
    cloud, outputs, config = golden.inputs["points"], golden.outputs, model.config
    assert torch.equal(farthest_points(cloud[..., :3], config.num_group), outputs["fps_idx"])
    neighbourhoods, centres = group_points(cloud, config.num_group, config.group_size)
    assert torch.equal(centres, outputs["center"])
    assert_close(sorted_rows(neighbourhoods), sorted_rows(outputs["neighborhood_sorted"]), "neighborhood_sorted")
    tokens = model.tokens(cloud)
    assert_close(model.point_encoder.codes(cloud)[0], outputs["group_tokens"], "group_tokens")
    assert_close(tokens, outputs["tokens"], "tokens")
    assert_close(model.pool(tokens), outputs["features"], "features")
    assert_close(model(cloud), outputs["pc_embed"], "pc_embed")


def test_epsilon_of_every_norm(model: PointBertModel) -> None:
    norms = [part for part in model.modules() if isinstance(part, nn.LayerNorm | nn.BatchNorm1d)]
    assert len(norms) == 2 + 2 * model.config.depth + 1
    assert {norm.eps for norm in norms} == {1e-5}


@pytest.mark.parametrize(
    ("name", "config"), [("ulip2_pointbert_10k_xyzrgb", PointBertConfig()), ("ulip1_pointbert_8k_xyz", ULIP1)]
)
def test_full_size_keys_and_shapes(
    layout: Callable[[str], dict[str, tuple[int, ...]]], name: str, config: PointBertConfig
) -> None:
    with torch.device("meta"):
        model = PointBertModel(config)
    assert {f"module.{key}": tuple(value.shape) for key, value in model.state_dict().items()} == layout(name)


def test_training_reaches_every_parameter_and_moves_batch_statistics(small_point_bert: PointBertConfig) -> None:
    model = PointBertModel(small_point_bert).train()
    running = model.point_encoder.encoder.first_conv[1].running_mean
    assert isinstance(running, Tensor)
    before = running.clone()
    embedding = model(torch.randn(4, 64, 6))
    (embedding * torch.randn_like(embedding)).sum().backward()
    idle = [
        name
        for name, parameter in model.named_parameters()
        if parameter.grad is None or not parameter.grad.abs().sum() > 0
    ]
    assert idle == ["logit_scale"]  # the contrastive loss alone uses it
    assert not torch.equal(running, before)


def test_farthest_points_by_definition() -> None:
    cloud = torch.randn(3, 50, 3, generator=torch.Generator().manual_seed(1))
    chosen = farthest_points(cloud, 12)
    for points, indices in zip(cloud, chosen.tolist(), strict=True):
        assert indices[0] == 0
        for step in range(1, 12):
            spread = torch.cdist(points, points[indices[:step]]).amin(dim=1)
            spread[points.square().sum(dim=1) <= 1e-3] = -1
            assert torch.isclose(spread[indices[step]], spread.max())


def test_points_at_the_origin_are_never_picked() -> None:
    cloud = torch.cat([torch.tensor([[1.0, 0, 0]]), torch.full((5, 3), 0.01), -torch.eye(3)])[None]
    assert sorted(farthest_points(cloud, 4)[0].tolist()) == [0, 6, 7, 8]


def test_fewer_points_than_groups() -> None:
    with pytest.raises(ValueError, match="found 7 points for 8 groups"):
        farthest_points(torch.randn(1, 7, 3), 8)


def test_nearest_points_by_definition() -> None:
    cloud = torch.randn(2, 40, 3, generator=torch.Generator().manual_seed(2))
    centres = cloud[:, :5]
    found = nearest_points(cloud, centres, 6).sort(dim=-1).values
    expected = torch.cdist(centres, cloud).argsort(dim=-1)[..., :6].sort(dim=-1).values
    assert torch.equal(found, expected)


@pytest.mark.parametrize("fields", [{"num_heads": 5}, {"num_group": 20000}, {"group_size": 0}, {"embed_dim": 0}])
def test_sizes_that_do_not_fit(fields: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=next(iter(fields))):
        PointBertConfig(**fields)
