"""A test run stores its answers, and one that was broken off goes on with them to the same figures."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from answered_digits import Length
from killed import killed_at
from tiny_world import tiny_model

from isthmus.backbones.base import Sampling
from isthmus.data.module import ConversationDataModule
from isthmus.evaluation import Evaluation
from isthmus.evaluation.metrics.base import Figure, Metric, Processes
from isthmus.evaluation.predictions.answered import Answered
from isthmus.evaluation.predictions.recomputing import measure_stored
from isthmus.model import AnyToAny
from isthmus.pocket.cells import MatrixCells
from isthmus.training import TrainingModule
from isthmus.types import Modality

CELLS = MatrixCells(per_cell=1, inputs=["text", "image"], outputs=["text", "image"], arithmetic=False, text_skill=3)
"""Seven prompts: the last batch of four has fewer than there are processes, where there are two."""


class Brightness:
    """Of the pictures in answers, and how many there are."""

    def measure(self, answers: Sequence[Answered], processes: Processes) -> Mapping[str, Figure]:
        values = processes.map(brightness, answers, size=2)
        made = [value for value in values if value is not None]
        scores = {one.id: value for one, value in zip(answers, values, strict=True) if value is not None}
        return {"image/brightness": Figure(sum(made) / max(len(made), 1), len(made), "higher", None, scores)}


def brightness(answers: Sequence[Answered]) -> list[float | None]:
    pictures = [answer.media(Modality.IMAGE) for answer in answers]
    return [float(own[0].array.mean(dtype="float64")) if own else None for own in pictures]


METRICS: dict[str, Metric] = {"length": Length(), "brightness": Brightness()}


@pytest.fixture(scope="module")
def model(tiny_experts_paths: dict[str, Path]) -> AnyToAny:
    made = tiny_model(tiny_experts_paths, ("image",), ("image",), max_tokens=1024)
    made.sampling = Sampling(max_new_tokens=12)
    made.configure_model()
    for rows in made.parts()["signal_rows"].values():  # large, so that some answers hold pictures
        torch.nn.init.normal_(rows, 0, 1.5)
    return made


def run(
    model: AnyToAny,
    folder: Path,
    evaluation: Evaluation | None = None,
    others: Sequence[pl.Callback] = (),
    **given: Any,
) -> Evaluation:
    """A test run; of two forked processes with ``devices=2``."""
    evaluation = Evaluation(METRICS) if evaluation is None else evaluation
    settings = {"devices": 1} | given
    trainer = pl.Trainer(
        accelerator="cpu",
        strategy="ddp_fork" if settings["devices"] == 2 else "auto",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[evaluation, *others],
        default_root_dir=folder,
        **settings,
    )
    data = ConversationDataModule({}, test={"cells": CELLS}, batch_size=4)
    trainer.test(TrainingModule(model), datamodule=data, verbose=False)
    return evaluation


def content(folder: Path) -> dict[str, Any]:
    """The files that hold figures; where the answers lie is left out."""
    own = folder / "evaluation"
    metrics = json.loads((own / "metrics.json").read_text())
    metrics.pop("predictions")
    return {"metrics": metrics, "scores": (own / "scores.jsonl").read_text()}


def lines(folder: Path, rank: int = 0) -> Path:
    return folder / "evaluation" / "predictions" / f"answers-{rank}.jsonl"


@pytest.fixture(scope="module")
def whole(model: AnyToAny, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that nothing broke off."""
    folder = tmp_path_factory.mktemp("whole")
    run(model, folder)
    return folder


@pytest.fixture
def copied(whole: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return shutil.copytree(whole, tmp_path / "copied")


def test_a_run_stores_an_answer_to_each_conversation(whole: Path) -> None:
    stored = [json.loads(line) for line in lines(whole).read_text().splitlines()]
    assert [(line["source"], line["index"]) for line in stored] == [("cells", index) for index in range(len(CELLS))]
    assert any(item["type"] == "image" for line in stored for item in line["content"])
    figures = content(whole)["metrics"]["figures"]
    assert figures["cells/text/length"]["n"] == len(CELLS) and 0 < figures["cells/image/brightness"]["n"]
    protocol = content(whole)["metrics"]["protocol"]
    assert protocol["sampling"]["max_new_tokens"] == 12 and protocol["test"]["cells"]["conversations"] == len(CELLS)
    assert len((whole / "evaluation" / "scores.jsonl").read_text().splitlines()) == len(CELLS)


def test_a_killed_run_goes_on_to_the_same_figures(model: AnyToAny, whole: Path, tmp_path: Path) -> None:
    assert killed_at(3, "fsync", lambda: run(model, tmp_path)), "2 syncs of origin.json, 1 of the first batch"
    kept = lines(tmp_path).read_bytes()
    assert kept.count(b"\n") in (4, 7) and not (tmp_path / "evaluation" / "metrics.json").exists()
    lines(tmp_path).write_bytes(kept[: kept.rfind(b"\n", 0, -1) + 30])
    run(model, tmp_path)
    assert content(tmp_path) == content(whole)
    assert sorted(lines(tmp_path).read_bytes().splitlines()) == sorted(lines(whole).read_bytes().splitlines())


def test_stored_answers_arent_generated_anew(model: AnyToAny, copied: Path) -> None:
    """And other callbacks of the run see them, too."""
    path = lines(copied)
    stored = [json.loads(line) for line in path.read_text().splitlines()]
    stored[1]["content"] = [{"type": "text", "text": "what no model says"}]
    path.write_text("".join(json.dumps(line) + "\n" for line in stored))

    class Seen(pl.Callback):
        texts: list[str] = []  # noqa: RUF012 # one run

        def on_test_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, *others: Any) -> None:
            self.texts += [reply.text for reply in outputs]

    seen = Seen()
    run(model, copied, others=[seen])
    assert len(seen.texts) == len(CELLS) and seen.texts[1] == "what no model says"
    assert len(path.read_text().splitlines()) == len(CELLS)


def test_two_processes_take_up_what_one_has_stored(model: AnyToAny, whole: Path, copied: Path) -> None:
    run(model, copied, devices=2)
    assert content(copied) == content(whole)
    kept = lines(copied).read_text().splitlines(keepends=True)
    lines(copied).write_text("".join(kept[:4]))  # the last batch has three, so one of two processes has one
    run(model, copied, devices=2)
    theirs = [json.loads(line)["index"] for rank in (0, 1) for line in lines(copied, rank).read_text().splitlines()]
    assert sorted(theirs) == list(range(len(CELLS))) and lines(copied, 1).read_text().count("\n") == 1
    run(model, copied)
    assert content(copied)["metrics"]["figures"]["cells/text/length"]["n"] == len(CELLS)


def test_more_of_the_data_is_answered_later(model: AnyToAny, whole: Path, tmp_path: Path) -> None:
    run(model, tmp_path, limit_test_batches=1)
    assert content(tmp_path)["metrics"]["figures"]["cells/text/length"]["n"] == 4
    assert content(tmp_path)["metrics"]["protocol"]["limit_test_batches"] == 1
    run(model, tmp_path)
    assert content(tmp_path) == content(whole)


def test_stored_answers_have_the_same_figures_without_the_model(whole: Path, tmp_path: Path) -> None:
    measure_stored([Evaluation(METRICS)], {"cells": CELLS}, whole / "evaluation" / "predictions", tmp_path)
    assert content(tmp_path) == content(whole)
    other = MatrixCells(per_cell=2, inputs=["text"], outputs=["text", "image"], arithmetic=False, text_skill=3)
    assert len(other) == len(CELLS)
    with pytest.raises(ValueError, match=r"found an answer to another 'cells/\d'.*Fix"):
        measure_stored([Evaluation(METRICS)], {"cells": other}, whole / "evaluation" / "predictions", tmp_path)


def test_a_part_of_a_runs_own_answers_is_measured(
    copied: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A run passes over bad conversations; after a power cut it has answered some twice, to the same names."""
    path, out = lines(copied), tmp_path / "out"
    kept = path.read_text().splitlines(keepends=True)
    path.write_text("".join([*kept[2:], kept[3]]))
    measure_stored([Evaluation(METRICS)], {"cells": CELLS}, path.parent, out)
    assert content(out)["metrics"]["figures"]["cells/text/length"]["n"] == len(CELLS) - 2
    assert "'cells': 5 of 7 conversations have an answer" in caplog.text


def test_answers_of_another_model_or_protocol_are_refused(model: AnyToAny, copied: Path) -> None:
    sampling, (parameter, *_) = model.sampling, model.parts()["signal_rows"].values()
    model.sampling = Sampling(max_new_tokens=5)
    with pytest.raises(ValueError, match=r"made otherwise: sampling.max_new_tokens: 12 -> 5 .*Fix: .*--overwrite"):
        run(model, copied)
    model.sampling, before = sampling, parameter.detach().clone()
    torch.nn.init.normal_(parameter, 0, 1)
    with pytest.raises(ValueError, match=r'made otherwise: weights: "\w+" -> "\w+" \(stored -> this run\)'):
        run(model, copied)
    evaluation = Evaluation(METRICS)
    evaluation.overwrite = True
    run(model, copied, evaluation)
    with torch.no_grad():
        parameter.copy_(before)
    aside, own = copied / "evaluation" / "previous-1", copied / "evaluation"
    assert (aside / "metrics.json").is_file() and (aside / "predictions" / "answers-0.jsonl").is_file()
    # Each stands beside its own answers: `isthmus report` reads these.
    assert [json.loads((each / "metrics.json").read_text())["predictions"] for each in (aside, own)] == [
        "predictions"
    ] * 2
    made = [json.loads((each / "predictions" / "origin.json").read_text())["weights"] for each in (aside, own)]
    assert made[0] != made[1] and len(lines(copied).read_text().splitlines()) == len(CELLS)


def test_an_answer_to_another_conversation_is_refused(model: AnyToAny, copied: Path) -> None:
    lines(copied).write_text(lines(copied).read_text().replace('"conversation": "', '"conversation": "0'))
    with pytest.raises(ValueError, match=r"answers-0.jsonl:1: found an answer to another 'cells/0'.*Fix"):
        run(model, copied)
    (copied / "evaluation" / "predictions" / "origin.json").unlink()
    with pytest.raises(ValueError, match=r"found answers without origin.json.*Fix"):
        run(model, copied)


def test_a_trial_run_measures_and_leaves_nothing(model: AnyToAny, tmp_path: Path) -> None:
    evaluation = run(model, tmp_path, fast_dev_run=True)
    assert evaluation.figures["cells/text/length"].n == 4 and not (tmp_path / "evaluation").exists()


def test_a_trainer_without_conversations_is_refused(model: AnyToAny, tmp_path: Path) -> None:
    trainer = pl.Trainer(accelerator="cpu", logger=False, callbacks=[Evaluation(METRICS)], default_root_dir=tmp_path)
    loader = torch.utils.data.DataLoader([0], batch_size=None)
    with pytest.raises(ValueError, match=r"evaluation: found a Trainer without a ConversationDataModule.*Fix"):
        trainer.test(TrainingModule(model), dataloaders=loader, verbose=False)
