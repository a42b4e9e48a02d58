"""The embedded 3D generator: its tables make closed surfaces, its fields are the library's, its training runs."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from isthmus.generators.points.shap_e import ShapE
from isthmus.pocket.experts.captions import build_tokenizer, tokenized
from isthmus.pocket.experts.points import shap_e
from isthmus.pocket.experts.points.marching_cubes import loops, tables
from isthmus.pocket.experts.points.solids import DEPTH, Solids
from isthmus.pocket.judges.points import PointsJudge
from isthmus.pocket.world import COLOURS, Concept
from isthmus.types import Modality


def mesh_of(field: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    from diffusers.pipelines.shap_e.renderer import MeshDecoder

    decoder = MeshDecoder()
    decoder.cases.copy_(tables()[0])
    decoder.masks.copy_(tables()[1])
    mesh = decoder(torch.nn.functional.pad(field, (1,) * 6, value=-1.0), torch.full((3,), -1.0), torch.full((3,), 2.0))
    return mesh.verts, mesh.faces


@pytest.mark.parametrize("kind", ["ball", "noise"])
def test_surfaces_are_closed_and_face_outwards(kind: str) -> None:
    axis = torch.linspace(-1, 1, 21)
    places = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), dim=-1)
    ball = 0.6 - places.norm(dim=-1)
    vertices, faces = mesh_of(
        ball if kind == "ball" else torch.randn(8, 8, 8, generator=torch.Generator().manual_seed(0))
    )
    edges: Counter[tuple[int, int]] = Counter()
    for a, b, c in faces.tolist():
        edges.update([(a, b), (b, c), (c, a)])
    # Each edge once in each direction: no hole, no fold.
    assert set(edges.values()) == {1} and all((b, a) in edges for a, b in edges)
    corners = vertices[faces].double()
    volume = float((corners[:, 0] * torch.linalg.cross(corners[:, 1], corners[:, 2])).sum() / 6)
    # The padding makes the ball 20/22 of its size.
    assert volume > 0 and (kind == "noise" or abs(volume / (4 / 3 * np.pi * (0.6 * 20 / 22) ** 3) - 1) < 0.03)


def test_every_case_has_its_loops() -> None:
    for case in range(256):
        crossed = sorted(edge for loop in loops(case) for edge in loop)
        assert crossed == sorted(set(crossed))
        mirrored = sorted(edge for loop in loops(255 - case) for edge in loop)
        assert crossed == mirrored
    assert int(tables()[1].sum(1).max()) == 5


def test_distances_are_those_of_the_slab() -> None:
    solids = Solids("validation")
    drawn = solids.draw(6, np.random.default_rng(0))
    torch.manual_seed(0)
    places = solids.places(drawn, 400)
    assert places.shape == (6, 400, 3) and float(places.abs().max()) <= 1
    distance = solids.distance(drawn, places)
    aside = places[..., 2].abs() > DEPTH
    assert bool((distance[aside] < 0).all()) and bool((distance > 0).any())
    # A place ahead of a stroke is as far from it as it stands out.
    inside = torch.tensor(np.argwhere(solids.flat[drawn.number[0], 0].numpy() > 0.1)[0])
    x, y = (float(inside[1]) + 0.5) / 48 - 1, 1 - (float(inside[0]) + 0.5) / 48
    ahead = torch.tensor([[[x, y, DEPTH + 0.3]]])
    one = shap_e.Solids("validation")
    assert one.distance(type(drawn)(*(getattr(drawn, f)[:1] for f in drawn.__dataclass_fields__)), ahead).item() == (
        pytest.approx(-0.3, abs=1e-5)
    )


def test_fields_are_those_that_the_library_decodes() -> None:
    torch.manual_seed(0)
    renderer = shap_e.build_renderer()
    latents = torch.rand(2, shap_e.TOKENS, shap_e.LATENT) * 2 - 1
    places = torch.rand(2, 30, 3) * 2 - 1
    with torch.no_grad():
        values, colours = shap_e.field(renderer, latents, places)
        for row in range(2):
            renderer.decode_to_mesh(latents[row : row + 1], "cpu", grid_size=4)  # leaves the solid's weights in place
            theirs = renderer.mlp(
                position=places[row : row + 1], direction=None, ts=None, nerf_level="fine", rendering_mode="stf"
            )
            torch.testing.assert_close(values[row], theirs.signed_distance[0, :, 0], rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(colours[row], theirs.channels[0], rtol=1e-4, atol=1e-5)


def test_no_caption_is_cut_and_all_differ() -> None:
    tokenizer = build_tokenizer()
    captions = [Concept(d, c).caption(Modality.POINTS) for d in range(10) for c in (None, *COLOURS)]
    ids = tokenized(tokenizer, captions)
    assert bool((ids == tokenizer.eos_token_id).any(1).all()) and len(ids.unique(dim=0)) == len(captions)


@pytest.mark.slow
def test_training_writes_a_pipeline_that_carves(tmp_path: Path) -> None:
    shap_e.train(tmp_path / "shap_e", effort=0.002)
    generator = ShapE(tmp_path / "shap_e", num_inference_steps=2, points=16, grid=8, scheduler="dpmsolver++")
    media = generator.generate(generator.condition(["a solid red one", "a solid two"]), [0, 1])
    assert [medium.array.shape for medium in media] == [(16, 6), (16, 6)]


@pytest.mark.slow
def test_what_is_shipped_carves_what_is_said(repository: Path) -> None:
    pocket = repository / "checkpoints" / "pocket"
    found = shap_e.measure(pocket / "shap_e", pocket / "judges", count=20, steps=8)
    assert found["digit"] >= 0.9 and found["colour"] >= 0.9


def test_the_judge_reads_genuine_clouds(repository: Path) -> None:
    from isthmus.pocket.judges.base import judge_accuracy

    judge = PointsJudge(repository / "checkpoints" / "pocket" / "judges")
    found = judge_accuracy(judge, n=100)
    assert found["digit"] >= 0.94 and found["colour"] == 1.0
