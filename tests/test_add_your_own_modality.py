"""docs/parts/add_your_own_modality.md keeps its word: from a data file through training a stage to chat."""

from __future__ import annotations

import importlib
import io
import json
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tiny_world import tiny_clone

from isthmus import cli
from isthmus.modalities import GRID, Modality, known_media, names
from isthmus.model import AnyToAny
from isthmus.types import Media

PAGE = Path(__file__).resolve().parents[1] / "docs" / "parts" / "add_your_own_modality.md"
NAME = "pressure_expert"


def block(language: str) -> str:
    """The page's only code block in a language."""
    (found,) = re.findall(rf"^```{language}\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return str(found)


def commands() -> dict[str, list[str]]:
    """The page's command lines, by their first words."""
    lines = [shlex.split(line) for line in block("bash").replace("\\\n", " ").splitlines()]
    return {" ".join(line[:2]): line for line in lines}


def pressed(place: int) -> np.ndarray[Any, Any]:
    """A map with one warm spot, whose place tells what is touched."""
    rows, columns = np.mgrid[:12, :20]
    return np.exp(-((rows - 2 - place) ** 2 + (columns - 3 - 4 * place) ** 2) / 6).astype(np.float32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where a reader of the page works: its files, maps, and tiny experts for the rest."""
    folder = tiny_clone(tmp_path_factory.mktemp("clone"))
    (folder / f"{NAME}.py").write_text(block("python"), encoding="utf-8")
    (folder / "touch.yaml").write_text(block("yaml"), encoding="utf-8")
    (folder / "touch").mkdir()
    example, lines = json.loads(block("json")), []
    for number in range(8):
        np.save(folder / "touch" / f"{number}.npy", pressed(number % 4))
        own = {"id": str(number), "path": f"{number}.npy", "split": "validation" if number > 5 else "train"}
        lines.append(json.dumps(example | own | {"caption": ["a ball", "a key", "a nut", "a pin"][number % 4]}))
    (folder / "touch" / "manifest.jsonl").write_text("\n".join(lines), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        patch.chdir(folder)
        patch.setattr(sys, "argv", ["train.py"])
        yield folder
    sys.modules.pop(NAME, None)
    for registry in (names._MODALITIES, names._SPECS, names._HOMES):
        registry.pop("tactile", None)
    names._MEDIA[:] = [modality for modality in names._MEDIA if modality != "tactile"]


@pytest.fixture(scope="module")
def trained(folder: Path) -> Path:
    """The stage that the page's command trains, in a few steps."""
    assert "tactile" not in known_media(), "nothing has loaded the class yet"
    cli.train(
        [
            *commands()["python train.py"][2:],
            *("--training.stages.encoder_alignment.steps=3", "--data.batch_size=2", "--trainer.accelerator=cpu"),
            *("--trainer.logger=false", "--trainer.enable_progress_bar=false"),
        ]
    )
    return folder / "runs" / "touch" / "encoder_alignment"


def test_what_is_learnt_of_it_is_saved_under_its_name(trained: Path) -> None:
    tags = load_file(trained / "media_tags.safetensors")
    assert set(tags) == {"image", "video", "audio", "points", "tactile"} and tags["tactile"].shape[0] == 2
    assert load_file(trained / "signal_rows.safetensors")["tactile"].shape[0] == 4
    assert (trained / "input_projectors.tactile.safetensors").is_file()


def test_a_set_is_linted_as_what_it_holds(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cli.main(commands()["isthmus data"][1:])
    said = capsys.readouterr().out
    assert "6 tactile given" in said and "tactile places: 240 least" in said and "0 would be skipped" in said


def test_a_request_and_a_chat_take_its_files(
    trained: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    line = commands()
    cli.main([*line["isthmus generate"][1:], "--max_new_tokens=4", "--device=cpu"])
    reply = json.loads(Path("runs/answer/reply.json").read_text(encoding="utf-8"))
    assert [item["type"] for item in reply["content"]] == ["text"]
    capsys.readouterr()
    monkeypatch.setattr(sys, "stdin", io.StringIO("/help\n/tactile touch/1.npy\nwhat is it?\n/quit\n"))
    cli.main([*line["isthmus chat"][1:], "--max_new_tokens=4", "--device=cpu"])
    said = capsys.readouterr().out
    assert "/tactile" in said and "(tactile added" in said and "error" not in said


def test_the_model_reads_touch(trained: Path) -> None:
    model = AnyToAny.from_checkpoint(trained, allow=[NAME])
    tactile = importlib.import_module(NAME).TACTILE
    assert model.inputs == [tactile] and tactile is Modality("tactile") and tactile.kind is GRID
    maps = [Media(tactile, pressed(place)) for place in (0, 3)]
    encoder = model.input_side.encoder(tactile)
    inputs = [encoder.preprocess(one) for one in maps]
    features = encoder(tactile, {"pressures": torch.stack([one["pressures"] for one in inputs])})
    assert features.tokens.shape == (2, encoder.token_count(tactile, inputs[0]), encoder.width(tactile))
    assert not torch.equal(features.tokens[0], features.tokens[1])
    with pytest.raises(ValueError, match=r"for tactile; expected a non-empty \(rows, columns\) float32 of pressures"):
        Media(tactile, -pressed(0))


def test_a_folder_that_names_it_is_opened_where_it_is_allowed_alone(
    trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = [word for word in commands()["isthmus generate"][1:] if word not in ("--allow", NAME)]
    with pytest.raises(SystemExit):
        cli.main(line)
    assert "allow its package: --allow pressure_expert" in capsys.readouterr().err
