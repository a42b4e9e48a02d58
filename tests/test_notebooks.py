"""The notebooks run against a trained model's folder, and are shipped with the outputs of their sources."""

from __future__ import annotations

import importlib
import json
import os
import sys
from base64 import b64decode
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import nbformat
import pytest
from jsonargparse import ArgumentParser
from nbclient import NotebookClient
from tiny_shap_e import write_shap_e
from tiny_world import INPUTS, SIGNALS, tiny_experts

from isthmus.model import AnyToAny

NOTEBOOKS = Path(__file__).resolve().parents[1] / "docs" / "notebooks"
GENERATORS = {
    "image": ("isthmus.generators.StableDiffusion", {"num_inference_steps": 2}),
    "video": ("isthmus.generators.ZeroScope", {"num_inference_steps": 2, "num_frames": 3}),
    "audio": ("isthmus.generators.AudioLDM", {"num_inference_steps": 2}),
    "points": ("isthmus.generators.ShapE", {"num_inference_steps": 2, "points": 32, "grid": 8}),
}
"""Every output of the model that the README trains: a notebook that runs here has judges for all of them."""


def part(class_path: str, **arguments: Any) -> dict[str, Any]:
    return {"class_path": class_path, "init_args": arguments}


def tiny_configuration(paths: dict[str, Path]) -> dict[str, Any]:
    """The tiny model as a configuration file would compose it, so that its folder can be opened again."""
    bridge_in = part("isthmus.input_projectors.MLP", hidden=16, positions_per_token=2)
    bridge_out = part(
        "isthmus.output_projectors.TinyTransformer",
        width=16,
        encoder_layers=1,
        decoder_layers=1,
        heads=2,
        feed_forward=16,
    )
    vision = part(
        "isthmus.encoders.ImageBind",
        checkpoint=str(paths["imagebind"]),
        modalities=["image", "video", "audio"],
    )
    points = part("isthmus.encoders.PointBert", checkpoint=str(paths["point_bert"]))
    language_model = part(
        "isthmus.backbones.CausalBackbone",
        checkpoint=str(paths["llama"]),
        signals=SIGNALS,
        lora={"r": 2, "lora_alpha": 4, "lora_dropout": 0.0},
    )
    generators = [part(name, checkpoint=str(paths[kind]), **rest) for kind, (name, rest) in GENERATORS.items()]
    return {
        "backbone": part("isthmus.model.Backbone", language_model=language_model),
        "input_side": part(
            "isthmus.model.InputSide", encoders=[vision, points], projectors=dict.fromkeys(INPUTS, bridge_in)
        ),
        "output_side": part(
            "isthmus.model.OutputSide", generators=generators, projectors=dict.fromkeys(GENERATORS, bridge_out)
        ),
    }


@pytest.fixture(scope="module")
def tiny_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run's folder with one stage in it, of random weights."""
    folder = tmp_path_factory.mktemp("run")
    paths = tiny_experts(folder / "experts") | {"points": folder / "experts" / "points"}
    write_shap_e(paths["points"])
    configuration = tiny_configuration(paths)
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(AnyToAny, "model")
    model: AnyToAny = parser.instantiate_classes(parser.parse_object({"model": deepcopy(configuration)})).model
    model.configuration = configuration
    model.configure_model()
    model.save(folder / "tiny" / "instruction_tuning", "instruction_tuning")
    return folder / "tiny"


@pytest.fixture(params=["tiny", "given"])
def run(request: pytest.FixtureRequest) -> Path:
    """A run of random weights, and ``$ISTHMUS_RUN`` where one is given."""
    if request.param == "tiny":
        folder: Path = request.getfixturevalue("tiny_run")
        return folder
    if "ISTHMUS_RUN" not in os.environ:
        pytest.skip("ISTHMUS_RUN names no trained run")
    return Path(os.environ["ISTHMUS_RUN"]).resolve()


def outputs(notebook: Any, cell: str) -> Iterator[tuple[str, Any]]:
    """MIME type and content of all that a cell has shown."""
    (found,) = [each for each in notebook.cells if each["id"] == cell]
    for output in found["outputs"]:
        if output["output_type"] == "stream":
            yield "text/plain", output["text"]
        else:
            yield from output["data"].items()


def executed(path: Path, monkeypatch: pytest.MonkeyPatch, folder: Path, **environment: str) -> Any:
    # The kernel is a process of its own and inherits these.
    monkeypatch.setenv("ISTHMUS_RUN", str(folder))
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(notebook, timeout=500, resources={"metadata": {"path": str(path.parent)}})
    client.execute()
    return notebook


@pytest.mark.parametrize("path", sorted(NOTEBOOKS.glob("*.ipynb")), ids=lambda path: path.stem)
def test_notebooks_are_shipped_with_the_outputs_of_their_sources(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(NOTEBOOKS))
    digest = importlib.import_module("execute").digest
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert (notebook.nbformat, notebook.nbformat_minor) >= (4, 5)
    fix = f"run: python docs/notebooks/execute.py, beside the model of `make quickstart` ({path.name})"
    assert notebook.metadata["isthmus"]["outputs_of"] == digest(notebook), fix
    codes = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in codes] == list(range(1, len(codes) + 1)), fix
    kinds = {output["output_type"] for cell in codes for output in cell.outputs}
    assert kinds & {"display_data", "stream"} and "error" not in kinds
    # Small enough for a page on the web, and nothing of the machine that it was made on.
    text = path.read_text(encoding="utf-8")
    assert len(text) < 4_000_000 and "/home/" not in text and "/tmp/" not in text and "/work/" not in text
    sys.modules.pop("execute", None)


def run_here(name: str, monkeypatch: pytest.MonkeyPatch, until: str = "", **environment: str) -> dict[str, Any]:
    """Runs a notebook's cells in this process, which has torch and the rooms loaded, and returns its names.

    The last cell is that of the id ``until``, or the notebook's last.
    """
    pyplot = pytest.importorskip("matplotlib.pyplot")
    pyplot.switch_backend("agg")
    monkeypatch.chdir(NOTEBOOKS)
    for variable, value in environment.items():
        monkeypatch.setenv(variable, value)
    names: dict[str, Any] = {}
    for cell in nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4).cells:
        if cell.cell_type == "code":
            source = "\n".join(line for line in cell.source.splitlines() if not line.startswith("%"))  # IPython's own
            exec(compile(source, f"{name}: {cell.id}", "exec"), names)
        if cell.id == until:
            break
    pyplot.close("all")
    return names


def test_the_notebook_that_looks_at_a_model(
    tiny_run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    names = run_here("look", monkeypatch, ISTHMUS_RUN=str(tiny_run), ISTHMUS_PER_CELL="5")
    assert [str(medium) for medium in names["attention"].media] == ["image", "audio"]
    assert names["attention"].tokens[-2:] == ["[image]", "</s>"]
    assert len(names["embeddings"].features) == len(names["pictures"]) == 5
    told = capsys.readouterr().out
    assert "input_projectors.image" in told and f"{sum(names['counts'].values()):,}" in told


def test_the_notebook_of_bridges(tiny_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = run_here("bridges", monkeypatch, ISTHMUS_RUN=str(tiny_run), ISTHMUS_PER_CELL="2")
    assert names["reading"].captions == ["a red zero", "a red one", "a blue zero", "a blue one"]
    assert names["cosines"].shape == (3, 4) and names["names"][-1] == "conditioner"
    assert 0 <= names["nearest"] <= 4


def test_the_notebook_of_ones_own_llm(tiny_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    experts = tiny_run.parent / "experts"
    given = {"ISTHMUS_LLM": str(experts / "llama"), "ISTHMUS_ENCODER": str(experts / "imagebind")}
    names = run_here("your_llm", monkeypatch, ISTHMUS_STEPS="3", ISTHMUS_PER_CELL="2", **given)
    assert len(names["losses"]) == 3 and names["losses"][-1] < names["losses"][0]
    assert len(names["replies"]) == 2 and names["width"] == 8


def test_the_notebooks_that_evaluate_and_compare(
    tiny_run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given = {"ISTHMUS_RUN": str(tiny_run), "ISTHMUS_BATCHES": "1"}
    names = run_here("evaluate", monkeypatch, **given)
    assert set(names["evaluation"].figures) == {"pictures/text/exact", "pictures/text/words"}
    assert len(names["scores"]) == len(names["said"]) == 16
    names = run_here("compare", monkeypatch, ISTHMUS_STAGES="instruction_tuning,instruction_tuning", **given)
    assert [figure.name for figure in names["comparison"].figures] == ["pictures/text/colour", "pictures/text/digit"]
    assert all(figure.test.difference == 0 and not figure.verdict for figure in names["comparison"].figures)
    assert capsys.readouterr().out.count("can't be told apart") == 2


@pytest.mark.slow
def test_the_matrix_notebook_measures_draws_and_plays(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    notebook = executed(NOTEBOOKS / "matrix.ipynb", monkeypatch, run, ISTHMUS_PER_CELL="1")
    table = "".join(text for kind, text in outputs(notebook, "matrix") if kind == "text/plain")
    assert "points -> text" in table and "image + audio -> audio" in table
    pictures = [content for kind, content in outputs(notebook, "heatmap") if kind == "image/png"]
    assert len(pictures) == 1 and b64decode(pictures[0]).startswith(b"\x89PNG")
    shown = list(outputs(notebook, "samples"))
    headings = [text for kind, text in shown if kind == "text/markdown"]
    assert len(headings) == 25 + 3 and "### audio->video" in headings and "### text->points" in headings
    # Each of four media is asked for five outputs, and three sums bring an image and a sound each.
    assert sum(kind == "image/png" for kind, _ in shown) >= 4 * 5 + 3
    said = "".join(text for kind, text in shown if kind == "text/plain")
    assert said.count("assistant:") == len(headings) and said.count("expected {") == len(headings)


@pytest.mark.slow
def test_the_matrix_notebook_reads_what_a_test_run_wrote(
    tiny_run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    entry = {
        "digit": 0.875,
        "n": 40,
        "chance": 0.1,
        "ceiling": None,
        "judge": None,
        "interval": {"digit": [0.739, 0.945]},
        "emitted": 1.0,
        "unrequested": 0.0,
        "by_attribute": {"digit": {"n": 40, "chance": 0.1, "ceiling": None, "judge": None}},
    }
    written = {"cells": {"text->text": entry}, "arithmetic": {}, "text_only": {}, "confidence": 0.95}
    path = tiny_run / "matrix.json"
    path.write_text(json.dumps(written), encoding="utf-8")
    try:
        run_here("matrix", monkeypatch, until="matrix", ISTHMUS_RUN=str(tiny_run), ISTHMUS_PER_CELL="1")
    finally:
        path.unlink()
    _, measured, table = capsys.readouterr().out.partition("as `python train.py test` has measured it")
    assert measured and "0.875 [0.74, 0.94]" in table and "points" not in table


@pytest.mark.slow
def test_a_run_that_is_not_there_is_told_with_those_that_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises((SystemExit, ValueError), match=r"is no trained stage; below runs/ there are: .* Fix: name one"):
        run_here("matrix", monkeypatch, ISTHMUS_RUN=str(tmp_path / "gone"), ISTHMUS_PER_CELL="1")
