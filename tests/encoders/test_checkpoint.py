"""Reading checkpoints: every nesting and format that is published, and every fault that a user meets."""

from __future__ import annotations

import argparse
import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from isthmus.encoders.checkpoint import load_weights, read_config, read_weights, save_checkpoint, weights_file
from isthmus.encoders.point_bert.model import PointBertConfig

WEIGHTS = {"weight": torch.arange(6.0).view(2, 3), "bias": torch.ones(2)}


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("nested", [True, False])
def test_every_published_form_reads_the_same(tmp_path: Path, nested: bool, zipped: bool) -> None:
    file = tmp_path / "weights.pt"
    prefixed = {f"module.{key}": value for key, value in WEIGHTS.items()}
    stored = {"epoch": 3, "args": argparse.Namespace(lr=1.0), "state_dict": prefixed} if nested else WEIGHTS
    torch.save(stored, file, _use_new_zipfile_serialization=zipped)
    found = read_weights(file)
    assert found.keys() == WEIGHTS.keys()
    assert all(torch.equal(found[key], WEIGHTS[key]) for key in WEIGHTS)


def test_saved_checkpoint_reads_back(tmp_path: Path, small_point_bert: PointBertConfig) -> None:
    save_checkpoint(tmp_path, "point_bert", small_point_bert, WEIGHTS)
    assert read_config(tmp_path, "point_bert", PointBertConfig()) == small_point_bert
    found = read_weights(weights_file(tmp_path))
    assert all(torch.equal(found[key], WEIGHTS[key]) for key in WEIGHTS)


class Harmful:
    """What a hostile pickle does: it calls a function as it is read."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("ran"),))


def test_no_code_in_a_file_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": WEIGHTS, "extra": Harmful()}, "weights.pt")
    with pytest.raises(ValueError, match=r"weights\.pt: can't be read as weights"):
        read_weights(Path("weights.pt"))
    assert not Path("ran").exists()


def write_truncated(file: Path) -> None:
    torch.save(WEIGHTS, file)
    file.write_bytes(file.read_bytes()[:200])


def write_truncated_safetensors(file: Path) -> None:
    save_file(WEIGHTS, file)
    file.write_bytes(file.read_bytes()[:-4])


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("cut.pth", write_truncated),
        ("cut.safetensors", write_truncated_safetensors),
        ("empty.pth", Path.touch),
        ("empty.safetensors", Path.touch),
        ("page.pt", lambda file: file.write_text("<html>not found</html>")),
        ("plain.pth", lambda file: file.write_bytes(pickle.dumps([1, 2], protocol=2))),
        ("list.pth", lambda file: torch.save([torch.ones(1)], file)),
    ],
)
def test_corrupt_files(tmp_path: Path, name: str, write: Any) -> None:
    write(tmp_path / name)
    with pytest.raises(ValueError, match=name):
        read_weights(tmp_path / name)


def test_keys_of_another_model(tmp_path: Path) -> None:
    said = "2 tensors found, 2 expected; 1 missing: bias; 1 unexpected: scale.*checkpoint of another model"
    with pytest.raises(ValueError, match=said):
        load_weights(nn.Linear(3, 2), {"weight": WEIGHTS["weight"], "scale": torch.ones(2)}, tmp_path)


def test_shapes_of_another_size(tmp_path: Path) -> None:
    said = r"weight \(2, 3\) instead of \(2, 4\)\. correct the sizes in config\.json"
    with pytest.raises(ValueError, match=said):
        load_weights(nn.Linear(4, 2), WEIGHTS, tmp_path)


def test_half_precision_weights_become_float32(tmp_path: Path) -> None:
    with torch.device("meta"):
        model = nn.Linear(3, 2)
    load_weights(model, {key: value.half() for key, value in WEIGHTS.items()}, tmp_path)
    assert model.weight.dtype is torch.float32 and torch.equal(model.weight, WEIGHTS["weight"])


def test_a_file_has_the_published_sizes(tmp_path: Path) -> None:
    assert read_config(tmp_path / "published.pt", "point_bert", PointBertConfig()) == PointBertConfig()
    assert read_config(tmp_path, "point_bert", PointBertConfig()) == PointBertConfig()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "expected JSON with a section 'point_bert'"),
        ('{"imagebind": {}}', "expected JSON with a section 'point_bert'"),
        ('{"point_bert": 3}', "expected JSON with a section 'point_bert'"),
        (json.dumps({"point_bert": {"width": 3}}), "unknown point_bert fields width; known: points"),
        (json.dumps({"point_bert": {"depth": "3"}}), "depth: found '3', a str; expected int"),
        (json.dumps({"point_bert": {"num_heads": 5}}), "config.json: trans_dim, depth, num_heads"),
    ],
)
def test_unusable_sizes(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ValueError, match=said):
        read_config(tmp_path, "point_bert", PointBertConfig())


def test_missing_checkpoints(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nowhere: no such checkpoint"):
        read_config(tmp_path / "nowhere", "point_bert", PointBertConfig())
    with pytest.raises(ValueError, match=r"gone\.pt: weights files found: none"):
        weights_file(tmp_path / "gone.pt")
    for name in ("a.pt", "b.pth"):
        (tmp_path / name).touch()
    with pytest.raises(ValueError, match=r"found: a\.pt, b\.pth; expected one"):
        weights_file(tmp_path)
