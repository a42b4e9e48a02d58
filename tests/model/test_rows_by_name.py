"""Rows of new tokens are saved by modality: states of before load, and a model that serves more goes on from them."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import torch
from model.talks import mixed
from safetensors.torch import save
from tiny_world import tiny_model
from torch import Tensor

from isthmus.backbones.named_rows import named
from isthmus.encoders.base import Encoder
from isthmus.input_projectors import MLP
from isthmus.modalities import DEPTH, IMU, MEDIA, Modality
from isthmus.model import AnyToAny, Backbone, InputSide
from isthmus.types import Features, Media
from isthmus.vocabulary import Vocabulary

Build = Callable[..., AnyToAny]
State = dict[str, dict[str, Tensor]]


class Sensors(Encoder):
    """Depth and motion, each a token of its mean."""

    modalities = (IMU, DEPTH)
    checkpoint = Path(__file__)

    def materialize(self) -> None:
        """Nothing to read."""

    def width(self, modality: Modality) -> int:
        return 1

    def preprocess(self, medium: Media) -> dict[str, Tensor]:
        return {"mean": torch.tensor([medium.array.mean()])}

    def token_count(self, modality: Modality, inputs: Any) -> int:
        return 1

    def forward(self, modality: Modality, inputs: Any) -> Features:
        tokens = inputs["mean"][:, None]
        return Features(tokens, torch.ones(tokens.shape[:2], dtype=torch.bool))


def larger(experts: dict[str, Path], seed: int = 0) -> AnyToAny:
    """The tiny model, with depth and motion besides."""
    plain = tiny_model(experts, seed=seed)
    assert plain.input_side is not None and plain.output_side is not None
    encoders = [Sensors(), *plain.input_side.encoders]
    bridge = partial(MLP, hidden=16, positions_per_token=2)
    side = InputSide(encoders, dict.fromkeys([*plain.inputs, DEPTH, IMU], bridge))
    model = AnyToAny(Backbone(plain.backbone.language_model, 512), side, plain.output_side, seed)
    model.configure_model()
    return model


def by_name(model: AnyToAny) -> State:
    """What a bundle holds."""
    return {part: dict(own) for part, own in named(model.owned_state(), vocabulary_of(model)).items()}


def vocabulary_of(model: AnyToAny) -> Vocabulary:
    return model.backbone.language_model.vocabulary


def as_before(state: State) -> State:
    """By rule what versions wrote in which modalities were five of an enumeration: rows in one tensor a component."""
    tags, runs = state["media_tags"], state["signal_rows"]
    return state | {
        "media_tags": {"media_tags": torch.cat([tags[modality] for modality in MEDIA])},
        "signal_rows": {
            "signal_rows": torch.cat([runs[modality] for modality in MEDIA]),
            "run_starts": torch.cat([runs[f"{modality}.start"] for modality in MEDIA]),
        },
    }


def flat(state: State) -> dict[str, Tensor]:
    """As a checkpoint of Lightning holds a state."""
    return {f"{part}:{name}": tensor for part, own in state.items() for name, tensor in own.items()}


def test_the_rule_gives_what_the_parameters_are(model: AnyToAny) -> None:
    rows, before = model.backbone.language_model.rows, as_before(by_name(model))
    assert torch.equal(before["media_tags"]["media_tags"], rows.media_tags)
    assert torch.equal(before["signal_rows"]["signal_rows"], rows.signal_rows)
    assert torch.equal(before["signal_rows"]["run_starts"], rows.run_starts)


def test_states_of_earlier_versions_load(model: AnyToAny, build: Build) -> None:
    before = as_before(by_name(model))
    for load in (lambda to: to.load_owned_state(before), lambda to: to.load_state_dict(flat(before))):
        other = build(seed=9)
        load(other)
        assert flat(other.owned_state()).keys() == flat(model.owned_state()).keys()
        assert all(
            torch.equal(mine, theirs)
            for (_, mine), (_, theirs) in zip(other.named_owned(), model.named_owned(), strict=True)
        )


def test_a_bundle_of_an_earlier_version_loads(model: AnyToAny, build: Build, tmp_path: Path) -> None:
    folder = model.save(tmp_path / "bundle", "some_stage")
    manifest = json.loads((folder / "manifest.json").read_text()) | {"format": 1}
    for component, tensors in as_before(by_name(model)).items():
        data = save({name: tensor.detach().contiguous() for name, tensor in tensors.items()})
        (folder / f"{component}.safetensors").write_bytes(data)
        manifest["components"][component] = sha256(data).hexdigest()
    (folder / "manifest.json").write_text(json.dumps(manifest))
    other = build(seed=9)
    other.load(folder)
    batch = model.collator()(mixed())
    assert torch.equal(other(batch).text_loss, model(batch).text_loss)


@pytest.mark.parametrize("is_earlier", [False, True])
def test_a_model_that_serves_more_goes_on_from_one_that_serves_less(
    is_earlier: bool, model: AnyToAny, experts: dict[str, Path]
) -> None:
    state = as_before(by_name(model)) if is_earlier else by_name(model)
    more = larger(experts, seed=4)
    assert vocabulary_of(more).media == (*MEDIA, DEPTH, IMU)
    drawn = {name: t.clone() for name, t in flat(by_name(more)).items()}
    with pytest.raises(ValueError, match=r"found no rows depth, imu; expected those of image, .*, imu"):
        more.load_owned_state(state)
    more.load_owned_state(state, strict=False)
    known = flat(by_name(model))
    for name, tensor in flat(by_name(more)).items():
        assert torch.equal(tensor, known.get(name, drawn[name])), name
    with pytest.raises(ValueError, match=r"media_tags.: found depth, imu; expected rows of image"):
        model.load_owned_state(by_name(more), strict=False)


def test_what_is_drawn_for_a_modality_moves_no_other_row(build: Build, experts: dict[str, Path]) -> None:
    plain, more = build(seed=3), larger(experts, seed=3)
    own = by_name(plain)
    for part in ("media_tags", "signal_rows"):
        for name, tensor in own[part].items():
            assert torch.equal(by_name(more)[part][name], tensor), (part, name)


def test_a_backbone_whose_rows_are_built_takes_no_more_modalities(model: AnyToAny) -> None:
    side = InputSide([Sensors()], dict.fromkeys([DEPTH, IMU], partial(MLP, hidden=16)))
    with pytest.raises(ValueError, match=r"backbone: found imu, depth after its rows were built.*Fix: compose"):
        AnyToAny(model.backbone, side)
