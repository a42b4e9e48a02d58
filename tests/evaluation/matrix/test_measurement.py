"""Accuracies equal a plain count of what was right; what is missing, too much or repeated is treated as said."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from drawn_answers import VALUES, batch_of, drawn_replies, pocket_judges
from tiny_world import tiny_model

from isthmus.data.conversations.schema import Conversation, Message, TextItem
from isthmus.evaluation import Measurement
from isthmus.evaluation.intervals import wilson_interval
from isthmus.evaluation.matrix.ceilings import Ceiling
from isthmus.evaluation.matrix.judge import Judge, Reading
from isthmus.evaluation.matrix.scoring import Expectation
from isthmus.evaluation.matrix.table import attribute_names, matrix_table
from isthmus.model import AnyToAny, Reply
from isthmus.pocket.cells import MatrixCells
from isthmus.pocket.world import Concept, draw
from isthmus.types import Media, Modality

PER_CELL = 4
SOURCE = MatrixCells(per_cell=PER_CELL)
ROWS = range(len(SOURCE))
FAULTS = {row: ("digit", "missing", "extra")[row % 3] for row in ROWS if row % 7 in (0, 3)}


class Caption:
    """A judge that reads what a medium's maker says of it: right whatever the medium looks like."""

    attributes = ("digit", "colour")

    def many(self, media: Any) -> list[Reading]:
        return [dict(medium.details["shows"]) for medium in media]


@pytest.fixture(scope="module")
def judges(repository: Path) -> dict[str, Judge]:
    return pocket_judges(repository)


@pytest.fixture(scope="module")
def model(tiny_experts_paths: dict[str, Path]) -> AnyToAny:
    built = tiny_model(tiny_experts_paths, inputs=(), outputs=())
    built.configure_model()
    return built.eval()


@pytest.fixture(scope="module")
def measured(judges: dict[str, Judge], model: AnyToAny) -> Measurement:
    measurement = Measurement(judges, VALUES, samples=2)
    for start in range(0, len(SOURCE), 16):
        batch, replies = drawn_replies(SOURCE, ROWS[start : start + 16], FAULTS)
        measurement.add(model, batch, replies, lambda row, start=start: SOURCE[start + row].messages)  # type: ignore[misc]
    return measurement


def recounted(judges: dict[str, Judge]) -> dict[tuple[str, str], dict[str, Any]]:
    """The same figures without any of the package's counting: one prompt at a time."""
    _, replies = drawn_replies(SOURCE, ROWS, FAULTS)
    found: dict[tuple[str, str], dict[str, Any]] = defaultdict(
        lambda: {"right": defaultdict(list), "emitted": [], "others": []}
    )
    for row, reply in zip(ROWS, replies, strict=True):
        details = SOURCE[row].details
        output = details["output"]
        cell = found[details["task"], details["cell"] if details["task"] == "matrix" else output]
        pieces = [
            p
            for p in reply.content
            if (isinstance(p, str) if output == "text" else isinstance(p, Media) and p.modality == output)
        ]
        reading = judges[output].many(pieces[:1])[0] if pieces else {}
        for name, value in details["expect"].items():
            if value is not None:
                cell["right"][name].append(reading.get(name) == value)
        cell["emitted"].append(bool(pieces))
        cell["others"].append(any(isinstance(p, Media) and p.modality != output for p in reply.content))
    return found


def test_accuracies_equal_a_plain_recount(measured: Measurement, judges: dict[str, Judge]) -> None:
    report = measured.matrix()
    found = recounted(judges)
    assert {cell for task, cell in found if task == "matrix"} == set(report["cells"])
    assert len(report["cells"]) == 25
    assert (
        {cell for task, cell in found if task == "arithmetic"}
        == set(report["arithmetic"])
        == {"text", "image", "audio"}
    )
    below = 0
    for (task, cell), own in found.items():
        entry = report["cells" if task == "matrix" else "arithmetic"][cell]
        assert entry["n"] == PER_CELL
        assert entry["emitted"] == np.mean(own["emitted"])
        assert entry["unrequested"] == np.mean(own["others"])
        assert set(entry["by_attribute"]) == set(own["right"])
        for name, right in own["right"].items():
            assert entry[name] == round(float(np.mean(right)), 4)
            assert entry["by_attribute"][name]["n"] == len(right)
            assert entry["interval"][name] == [round(bound, 4) for bound in wilson_interval(sum(right), len(right))]
            below += entry[name] < 1
    assert below > 10, "the faults must show"


def test_a_missing_medium_is_wrong_and_reported(judges: dict[str, Judge], model: AnyToAny) -> None:
    details = {"task": "matrix", "cell": "text->image", "output": "image", "expect": {"digit": 3, "colour": "red"}}
    random = np.random.default_rng(0)
    given = Reply(["a red three", draw(Modality.IMAGE, Concept(3, "red"), "test", random)])
    measurement = Measurement(judges, VALUES)
    measurement.add(model, batch_of([details] * 4), [given, Reply(["a red three"]), given, Reply([])])
    entry = measurement.matrix()["cells"]["text->image"]
    assert (entry["digit"], entry["colour"], entry["emitted"], entry["unrequested"]) == (0.5, 0.5, 0.5, 0.0)


def test_only_a_medium_of_the_modality_asked_for_counts(judges: dict[str, Judge], model: AnyToAny) -> None:
    details = {"task": "matrix", "cell": "text->audio", "output": "audio", "expect": {"digit": 3}}
    random = np.random.default_rng(0)
    three, four = (draw(Modality.AUDIO, Concept(digit), "test", random) for digit in (3, 4))
    seen = draw(Modality.IMAGE, Concept(3), "test", random)
    measurement = Measurement(judges, VALUES)
    verdicts = measurement.add(
        model, batch_of([details] * 3), [Reply([seen]), Reply([seen, three, four]), Reply([four, three])]
    )
    assert [verdict.right for verdict in verdicts] == [{"digit": False}, {"digit": True}, {"digit": False}]
    entry = measurement.matrix()["cells"]["text->audio"]
    assert (entry["emitted"], entry["unrequested"]) == (0.6667, 0.6667)


def test_repeated_prompts_are_dropped(judges: dict[str, Judge], model: AnyToAny) -> None:
    batch, replies = drawn_replies(SOURCE, range(8), {row: "digit" for row in range(4, 8)})
    for row in range(4, 8):
        batch.details[row]["repeated"] = True
    measurement = Measurement(judges, VALUES, samples=8)
    measurement.add(model, batch, replies)
    report = measurement.matrix()
    assert sum(entry["n"] for entry in report["cells"].values() if entry) == 4 == len(measurement.samples)
    assert all(entry["digit"] == 1 for entry in report["cells"].values() if entry)


def test_attributes_that_are_not_carried_and_cells_that_are_not_asked_are_explicit(
    measured: Measurement, judges: dict[str, Judge], model: AnyToAny
) -> None:
    report = measured.matrix()
    assert report["cells"]["audio->image"]["colour"] is None
    assert "colour" not in report["cells"]["audio->image"]["interval"]
    assert report["cells"]["image->video"]["motion"] is None
    source = MatrixCells(per_cell=1, inputs=[Modality.IMAGE], outputs=[Modality.TEXT], arithmetic=False)
    measurement = Measurement(judges, VALUES)
    measurement.add(model, *drawn_replies(source, range(1), {}))
    cells = measurement.matrix()["cells"]
    assert {cell for cell, entry in cells.items() if entry} == {"image->text"}
    assert cells["audio->text"] is None
    assert re.search(r"^audio -> text +n/a$", matrix_table(measurement.matrix()), re.MULTILINE)


def test_the_report_is_json_with_what_every_figure_is_held_against(measured: Measurement) -> None:
    ceilings = {Modality.IMAGE: Ceiling(100, {"digit": 0.99, "colour": 1.0}, {"digit": 0.98, "colour": 0.97})}
    report = measured.matrix(ceilings)
    assert json.loads(json.dumps(report)) == report
    entry = report["cells"]["points->image"]
    assert (entry["chance"], entry["ceiling"], entry["judge"]) == (0.1, 0.98, 0.99)
    assert entry["by_attribute"]["colour"] == {"n": PER_CELL, "chance": 0.1667, "ceiling": 0.97, "judge": 1.0}
    assert report["cells"]["points->video"]["ceiling"] is None
    assert report["arithmetic"]["image"]["ceiling"] == 0.98
    assert attribute_names(report) == ["digit", "colour", "motion"]


def test_the_table_has_a_line_for_every_cell(measured: Measurement) -> None:
    report = measured.matrix()
    lines = matrix_table(report).splitlines()
    for cell, entry in report["cells"].items():
        (line,) = [line for line in lines if line.startswith(cell.replace("->", " -> ") + " ")]
        assert f"{entry['digit']:.3f} [{entry['interval']['digit'][0]:.2f}" in line
    assert sum(line.startswith("image + audio -> ") for line in lines) == 3
    assert len({line.index("[") for line in lines if "[" in line}) == 1, "columns stand under one another"


def test_samples_are_a_random_choice_of_each_cell(measured: Measurement) -> None:
    assert len(measured.samples) == 2 * 28
    assert all(sample.messages[-1].role == "user" for sample in measured.samples)
    digits = {sample.verdict.expectation.values["digit"] for sample in measured.samples}
    assert len(digits) >= 4, "in every cell the digits take turns: the first ones are always zero and one"
    for sample in measured.samples:
        given = sample.verdict.expectation.cell.split("->")[0]
        if sample.verdict.expectation.task == "matrix" and given != "text":
            assert any(getattr(item, "modality", None) == given for item in sample.messages[-1].content)


def test_any_class_with_attributes_and_many_is_a_judge(model: AnyToAny) -> None:
    def image(**shows: Any) -> Media:
        return Media(Modality.IMAGE, np.zeros((2, 2, 3), np.uint8), details={"shows": shows})

    details = {"task": "matrix", "cell": "audio->image", "output": "image", "expect": {"digit": 3, "colour": None}}
    measurement = Measurement({"image": Caption()}, {"digit": 10, "colour": 6})
    replies = [Reply([image(digit=3, colour="red")]), Reply([image(digit=None, colour=None)])]
    measurement.add(model, batch_of([details] * 2), replies)
    entry = measurement.matrix()["cells"]["audio->image"]
    assert (entry["digit"], entry["colour"], entry["emitted"]) == (0.5, None, 1.0)


@pytest.fixture
def tuned(tiny_experts_paths: dict[str, Path]) -> AnyToAny:
    model = tiny_model(tiny_experts_paths)
    model.configure_model()
    with torch.no_grad():
        for name, parameter in model.named_owned():
            if name.startswith("lora"):
                parameter.normal_(0, 0.5)
    return model.eval()


def test_text_only_skill_is_measured_without_and_with_adapters(tuned: AnyToAny, judges: dict[str, Judge]) -> None:
    asked = ["what is one plus one?", "say seven", "count from two to four"]
    prompts = tuned.prompts([Conversation((Message("user", (TextItem(text),)),)) for text in asked])
    after = [reply.text for reply in tuned.answer(prompts)]
    with tuned.backbone.language_model.adapters_disabled():
        before = [reply.text for reply in tuned.answer(prompts, allowed=())]
    assert before != after and all(before)
    # Gold answers: of the first two what the LLM says before tuning, of the last what the tuned one says.
    gold = [*before[:2], after[2]]
    mixed = [
        {"task": "text_only", "cell": "text_only", "output": "text", "expect": {}, "answer": answer} for answer in gold
    ]
    conversations = [
        SOURCE[0],
        *(Conversation((Message("user", (TextItem(t),)),), d) for t, d in zip(asked, mixed, strict=True)),
    ]
    batch = tuned.prompts(conversations)
    replies = tuned.answer(batch)
    measurement = Measurement(judges, VALUES)
    measurement.add(tuned, batch, replies)
    text_only = measurement.matrix()["text_only"]
    assert text_only["n"] == 3
    assert text_only["before"] == pytest.approx(2 / 3, abs=1e-4)
    assert text_only["after"] == pytest.approx(sum(a == g for a, g in zip(after, gold, strict=True)) / 3, abs=1e-4)
    assert text_only["after"] >= 0.3333
    assert text_only["interval"]["before"] == [round(bound, 4) for bound in wilson_interval(2, 3)]
    assert "before tuning: 0.667" in matrix_table(measurement.matrix())


def test_an_answer_beside_a_medium_is_not_word_for_word(judges: dict[str, Judge], tuned: AnyToAny) -> None:
    conversation = Conversation((Message("user", (TextItem("say seven"),)),))
    details = {"task": "text_only", "output": "text", "answer": "seven"}
    batch = tuned.prompts([Conversation(conversation.messages, details)] * 3)
    picture = draw(Modality.IMAGE, Concept(7), "test", np.random.default_rng(0))
    measurement = Measurement(judges, VALUES)
    measurement.add(tuned, batch, [Reply(["seven"]), Reply(["seven", picture]), Reply([" seven  "])])
    assert measurement.matrix()["text_only"]["after"] == 0.6667


@pytest.mark.parametrize(
    ("details", "said"),
    [
        ({}, "details.task: found None"),
        ({"task": "poetry", "id": "x/3"}, "prompt x/3: details.task: found 'poetry'"),
        ({"task": "matrix", "output": "smell"}, "details.output: found 'smell'"),
        ({"task": "matrix", "output": "image", "cell": "text->image"}, "details.expect: found None"),
        ({"task": "matrix", "output": "image", "cell": "text->image", "expect": {"digit": None}}, "details.expect"),
        (
            {"task": "matrix", "output": "image", "cell": "text->audio", "expect": {"digit": 1}},
            "such as 'image->image'",
        ),
        ({"task": "text_only", "output": "text"}, "details.answer"),
    ],
)
def test_details_that_say_too_little_are_named(details: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match="Fix:") as raised:
        Expectation.of(details)
    assert said in str(raised.value)


def test_a_judge_that_is_missing_or_blind_is_named(judges: dict[str, Judge], model: AnyToAny) -> None:
    details = {"task": "matrix", "cell": "image->audio", "output": "audio", "expect": {"digit": 1, "colour": "red"}}
    with pytest.raises(ValueError, match=r"judges\.audio: reads digit; expected colour too"):
        Measurement(judges, VALUES).add(model, batch_of([details]), [Reply([])])
    without = {name: judge for name, judge in judges.items() if name != "audio"}
    with pytest.raises(ValueError, match="judges: found image, video, points, text; expected one for audio"):
        Measurement(without, VALUES).add(model, batch_of([details]), [Reply([])])


def test_arguments_that_cannot_be_are_named(judges: dict[str, Judge]) -> None:
    with pytest.raises(ValueError, match="judges: found 'smell'"):
        Measurement({"smell": Caption()}, VALUES)
    with pytest.raises(ValueError, match="values: found None for motion"):
        Measurement(judges, {"digit": 10, "colour": 6})
    with pytest.raises(ValueError, match="samples: found -1"):
        Measurement(judges, VALUES, samples=-1)
    with pytest.raises(ValueError, match="found no prompts"):
        Measurement(judges, VALUES).matrix()
