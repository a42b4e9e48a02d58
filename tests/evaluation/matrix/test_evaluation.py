"""The callback: what a test run prints and writes, the same from one process as from two."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from drawn_answers import VALUES
from forked import run as run_program
from jsonargparse import ArgumentError, ArgumentParser
from measuring import SOURCE, Length, main

from isthmus.evaluation import MatrixEvaluation
from isthmus.evaluation.matrix.grid import matrix_grid
from isthmus.evaluation.matrix.table import matrix_table
from isthmus.pocket.judges.video import VideoJudge
from isthmus.pocket.references import References

MEASURING = Path(__file__).parents[2] / "measuring.py"


@pytest.fixture(scope="module")
def run(tiny_experts_paths: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> MatrixEvaluation:
    return main(tiny_experts_paths["llama"].parent, tmp_path_factory.mktemp("runs") / "new" / "folder", devices=1)


def test_the_matrix_is_written_as_it_was_measured(run: MatrixEvaluation) -> None:
    written = json.loads((run.folder / "matrix.json").read_text(encoding="utf-8"))
    protocol = written.pop("protocol")
    assert written == run.report
    assert protocol["judges"] == {name: type(judge).__name__ for name, judge in run.judges.items()}
    assert protocol["sampling"]["seed"] == 0 and protocol["generators"].keys() <= {"image", "video", "audio", "points"}
    assert all(one["conversations"] for one in protocol["test"].values())
    assert set(written) == {"cells", "arithmetic", "text_only", "confidence"}
    assert list(written["cells"])[:3] == ["text->text", "text->image", "image->text"]
    assert all(entry["n"] == 3 for entry in [*written["cells"].values(), *written["arithmetic"].values()])
    assert set(written["text_only"]) == {"before", "after", "n", "interval"} and written["text_only"]["n"] == 1
    for cell, entry in written["cells"].items():
        assert {"digit", "colour", "n", "chance", "ceiling", "judge", "interval", "emitted"} <= set(entry)
        assert entry["chance"] == 0.1 and entry["judge"] is not None and entry["ceiling"] is not None, cell


def test_the_table_is_written_and_the_grid_is_printed_with_each_attributes_lowest_cell(run: MatrixEvaluation) -> None:
    assert run.report is not None
    assert (run.folder / "matrix.txt").read_text(encoding="utf-8") == matrix_table(run.report) + "\n"
    lines = matrix_grid(run.report).splitlines()
    assert lines[0].split() == ["digit:", "from", "\\", "to", *["text", "image"]]
    rows = {line.split("  ")[0]: line.split()[-2:] for line in lines[1:]}
    for cell, entry in run.report["cells"].items():
        given, output = cell.split("->")
        assert rows[given][["text", "image"].index(output)] == f"{entry['digit']:.3f}"
    for name in ("digit", "colour"):
        (line,) = (line for line in lines if line.startswith(f"{name}: ") and "lowest" in line)
        entries = [entry for part in ("cells", "arithmetic") for entry in run.report[part].values()]
        lowest = min(entry[name] for entry in entries if entry and entry[name] is not None)
        assert line.startswith(f"{name}: {lowest:.3f} to ")
    for told, name, worst in (
        ("the medium asked for: at least", "emitted", min),
        ("another medium: at most", "unrequested", max),
    ):
        (line,) = (line for line in lines if line.startswith(f"replies with {told} "))
        assert line.removeprefix(f"replies with {told} ").startswith(f"{worst(entry[name] for entry in entries):.3f} (")
    assert len(lines) < 17


def test_the_replies_are_the_models_own(run: MatrixEvaluation) -> None:
    assert run.report is not None
    samples = run.measurement.samples
    assert len(samples) == 10 + 2 + 1
    for sample in samples:
        if sample.verdict.expectation.cell.endswith("->text"):
            assert sample.verdict.reading == Length().many([sample.reply.text])[0] and sample.reply.text
    emitted = {cell: entry["emitted"] for cell, entry in run.report["cells"].items()}
    assert all(emitted[cell] == 1 for cell in emitted if cell.endswith("text"))


def test_the_gallery_shows_the_prompts_with_their_media(run: MatrixEvaluation) -> None:
    page = (run.folder / "gallery.html").read_text(encoding="utf-8")
    for sample in run.measurement.samples:
        assert sample.messages[-1].role == "user"
    assert page.count('class="turn user"') >= 13
    assert page.count("<canvas") == 2 and page.count("<audio") == 2 + 2, (
        "points to two outputs; tones too, and in two sums"
    )


def test_a_second_run_counts_from_nothing(
    run: MatrixEvaluation, tiny_experts_paths: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    again = main(tiny_experts_paths["llama"].parent, run.folder, devices=1)
    assert again.report == run.report
    assert len(json.loads((run.folder / "ceilings.json").read_text(encoding="utf-8"))) == 1
    table = capsys.readouterr().out
    assert "digit: from" in table and "0.000 [0.00, 0.79] after tuning, of 1 answers" in table


@pytest.mark.slow
def test_two_processes_measure_what_one_measures(
    run: MatrixEvaluation, tiny_experts_paths: dict[str, Path], tmp_path: Path
) -> None:
    said = run_program(MEASURING, str(tiny_experts_paths["llama"].parent), str(tmp_path), "2", ranks=2)
    written = json.loads((tmp_path / "matrix.json").read_text(encoding="utf-8"))
    assert written == run.report | {"protocol": written["protocol"]}
    assert said.count("digit: from \\ to") == 1, "one process prints"
    assert len(SOURCE) % 4 == 1, "the second process had nothing of its own in the last batch"


def parser() -> ArgumentParser:
    made = ArgumentParser(exit_on_error=False)
    made.add_class_arguments(MatrixEvaluation, "evaluation")
    return made


def configuration(repository: Path, **judges: Any) -> dict[str, Any]:
    weights = {"folder": str(repository / "checkpoints/pocket/judges")}
    video = {"class_path": "isthmus.pocket.judges.video.VideoJudge", "init_args": weights}
    references = {"class_path": "isthmus.pocket.references.References", "init_args": {"size": 8}}
    return {
        "evaluation": {
            "judges": {"video": video, **judges},
            "values": VALUES,
            "references": references,
            "folder": "runs/x",
        }
    }


def test_it_is_configured_by_class_paths(repository: Path) -> None:
    made = parser()
    text = {"class_path": "isthmus.pocket.judges.text.TextJudge"}
    evaluation = made.instantiate_classes(made.parse_object(configuration(repository, text=text))).evaluation
    assert isinstance(evaluation, MatrixEvaluation) and isinstance(evaluation.judges["video"], VideoJudge)
    assert isinstance(evaluation.references, References) and evaluation.folder == Path("runs/x")


def test_a_class_that_judges_nothing_is_refused(repository: Path) -> None:
    with pytest.raises(ArgumentError, match="does not implement protocol Judge"):
        parser().parse_object(configuration(repository, text={"class_path": "isthmus.pocket.references.References"}))
