"""Figures of stored answers: the same from one process and from two, and what their files hold."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch.distributed as distributed
from answered_digits import Length, Overlap
from torch import multiprocessing

from isthmus.data.conversations.sources import JsonLines
from isthmus.evaluation.comparing.stored import read_scores
from isthmus.evaluation.metrics.base import Metric
from isthmus.evaluation.predictions.answers import read_answers
from isthmus.evaluation.predictions.evaluation import Evaluation
from isthmus.evaluation.predictions.recomputing import measure_stored

METRICS: dict[str, Metric] = {"overlap": Overlap(), "length": Length()}


def written(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "evaluation" / "metrics.json").read_text())
    return content


def _ranks(rank: int, meet: str, asked: JsonLines, answered: Path, out: Path) -> None:
    distributed.init_process_group("gloo", f"file://{meet}", rank=rank, world_size=2)
    figures = measure_stored([Evaluation(METRICS)], {"digits": asked}, answered, out)
    assert figures["digits/text/overlap"].scores is not None and len(figures["digits/text/overlap"].scores) == 7
    distributed.destroy_process_group()


def test_two_processes_write_what_one_writes(tmp_path: Path, asked: JsonLines, answered: Path) -> None:
    alone, together = tmp_path / "alone", tmp_path / "together"
    figures = measure_stored([Evaluation(METRICS)], {"digits": asked}, answered, alone)
    arguments = (str(tmp_path / "meet"), asked, answered, together)
    multiprocessing.start_processes(_ranks, arguments, nprocs=2, start_method="fork")
    for name in ("metrics.json", "scores.jsonl"):
        assert (alone / "evaluation" / name).read_bytes() == (together / "evaluation" / name).read_bytes()
    content = written(alone)
    assert content["figures"]["digits/text/overlap"] == {
        "value": figures["digits/text/overlap"].value,
        "n": 7,
        "better": "higher",
        "interval": [0.0, 1.0],
        "protocol": {},
    }
    assert content["figures"]["digits/text/length"]["interval"] is None
    assert content["protocol"]["test"]["digits"]["conversations"] == 7
    lines = [json.loads(line) for line in (alone / "evaluation" / "scores.jsonl").read_text().splitlines()]
    assert lines[2] == {"source": "digits", "index": 2, "id": "n2", "scores": {"digits/text/overlap": 1 / 1.1}}


def test_answers_without_metrics_leave_a_report(tmp_path: Path, asked: JsonLines, answered: Path) -> None:
    assert measure_stored([Evaluation({})], {"digits": asked}, answered, tmp_path) == {}
    assert written(tmp_path)["figures"] == {} and "n2" in (tmp_path / "evaluation/report.md").read_text()


def test_figures_of_other_sources_stay_until_the_protocol_changes(
    tmp_path: Path, asked: JsonLines, answered: Path
) -> None:
    line = json.loads((answered / "answers.jsonl").read_text().splitlines()[0])
    for name in ("one", "two"):
        rows = [json.dumps(line | {"source": name, "index": index}) for index in range(7)]
        (answered / f"{name}.jsonl").write_text("\n".join(rows))
    (answered / "answers.jsonl").unlink()
    for name in ("one", "two"):
        measure_stored([Evaluation(METRICS)], {name: asked}, answered, tmp_path)
    assert {name.split("/")[0] for name in written(tmp_path)["figures"]} == {"one", "two"}
    assert set(written(tmp_path)["protocol"]["test"]) == {"one", "two"}
    scores = (tmp_path / "evaluation" / "scores.jsonl").read_text().splitlines()
    assert [json.loads(each)["source"] for each in scores] == ["one"] * 7 + ["two"] * 7
    measure_stored([Evaluation({"length": Length()})], {"two": asked}, answered, tmp_path)
    assert sorted(written(tmp_path)["figures"]) == ["one/text/length", "one/text/overlap", "two/text/length"]
    (answered / "one.jsonl").rename(answered.parent / "one.jsonl")
    elsewhere = answered.rename(tmp_path / "elsewhere")
    measure_stored([Evaluation(METRICS)], {"two": asked}, elsewhere, tmp_path)
    assert {name.split("/")[0] for name in written(tmp_path)["figures"]} == {"two"}


def test_a_metric_can_be_measured_on_some_sources_alone(tmp_path: Path, asked: JsonLines, answered: Path) -> None:
    rows = (answered / "answers.jsonl").read_text().splitlines()
    both = [json.dumps(json.loads(row) | {"source": name}) for name in ("one", "two") for row in rows]
    (answered / "answers.jsonl").write_text("\n".join(both))
    evaluation = Evaluation(METRICS, tmp_path / "own", sources={"overlap": ["one"]})
    measure_stored([evaluation], {"one": asked, "two": asked}, answered, tmp_path)
    assert list(written(tmp_path / "own")["figures"]) == ["one/text/overlap", "one/text/length", "two/text/length"]


def test_two_evaluations_share_a_folder(tmp_path: Path, asked: JsonLines, answered: Path) -> None:
    both = [Evaluation({name: metric}) for name, metric in METRICS.items()]
    measure_stored(both, {"digits": asked}, answered, tmp_path)
    assert list(written(tmp_path)["figures"]) == ["digits/text/overlap", "digits/text/length"]


def test_names_that_would_be_taken_for_others_are_refused(tmp_path: Path, asked: JsonLines, answered: Path) -> None:
    twice = Evaluation({"a": Length(), "b": Length()})
    with pytest.raises(ValueError, match=r"metrics.b: found the figure digits/text/length, which metrics.a gives"):
        measure_stored([twice], {"digits": asked}, answered, tmp_path)
    with pytest.raises(ValueError, match=r"sources: found 'c'; expected metrics: a.*Fix"):
        Evaluation({"a": Length()}, sources={"c": []})
    with pytest.raises(ValueError, match=r"sources.a: found 'cats'; expected test sources: digits.*Fix"):
        measure_stored([Evaluation({"a": Length()}, None, {"a": ["cats"]})], {"digits": asked}, answered, tmp_path)
    with pytest.raises(ValueError, match=r"data.test: found the name 'a/b'.*Fix"):
        measure_stored([Evaluation({"a": Length()})], {"a/b": asked}, answered, tmp_path)


@pytest.mark.parametrize(
    ("lines", "found"),
    [
        ([], "found no answer to digits"),
        (['{"index": 0, "text": ""}'], "found answers to 1 of 7 conversations of 'digits', none to digits/1"),
        (['{"index": 0, "text": ""}', '{"id": "n0", "text": ""}'], r"found a second answer to digits/0 \(the first"),
        (['{"id": "n9", "text": ""}'], "found an answer to 'n9'; expected a conversation of 'digits', which has 7"),
        (['{"index": 7, "text": ""}'], "found an answer to index 7"),
    ],
)
def test_answers_that_dont_fit_are_named(tmp_path: Path, asked: JsonLines, lines: list[str], found: str) -> None:
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "answers.jsonl").write_text("\n".join(lines))
    with pytest.raises(ValueError, match=rf"{found}.*Fix"):
        read_answers(tmp_path / "theirs", {"digits": asked})


def test_an_answer_to_another_conversation_is_named(tmp_path: Path, asked: JsonLines, answered: Path) -> None:
    path = answered / "answers.jsonl"
    path.write_text(path.read_text().replace('"index": 3', '"index": 3, "id": "n4"'))
    answers = read_answers(answered, {"digits": asked})["digits"]
    assert answers[2].id == "n2" and [one.text for one in answers[1:3]] == ["a red 1 in the sea", "2"]
    with pytest.raises(ValueError, match=r"answers.jsonl:4: found an answer to 'n4'; expected 'n3'.*Fix"):
        answers[3]
    with pytest.raises(ValueError, match=r"answers.jsonl:1: found no source; expected one of one, two.*Fix"):
        read_answers(answered, {"one": asked, "two": asked})
    with pytest.raises(ValueError, match="found no such folder"):
        read_answers(tmp_path / "absent", {"one": asked})


def test_ids_that_come_twice_cant_name_conversations(tmp_path: Path, asked: JsonLines) -> None:
    path = tmp_path / "twice.jsonl"
    path.write_text("\n".join([asked.path.read_text().splitlines()[0]] * 2))
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "answers.jsonl").write_text('{"id": "n0", "text": "a"}')
    with pytest.raises(ValueError, match=r"'twice': found the id 'n0' twice, at 0 and 1.*Fix"):
        read_answers(tmp_path / "theirs", {"twice": JsonLines(path)})


def test_conversations_of_one_id_have_scores_of_their_own(tmp_path: Path, asked: JsonLines) -> None:
    path = tmp_path / "twice.jsonl"
    path.write_text("\n".join([asked.path.read_text().splitlines()[0]] * 2))
    (tmp_path / "theirs").mkdir()
    said = [{"index": 0, "id": "n0", "text": "blue"}, {"index": 1, "text": "red"}]
    (tmp_path / "theirs" / "answers.jsonl").write_text("\n".join(map(json.dumps, said)))
    figures = measure_stored(
        [Evaluation({"one": Overlap()})], {"twice": JsonLines(path)}, tmp_path / "theirs", tmp_path
    )
    assert figures["twice/text/overlap"].scores == {"n0#0": 0.0, "n0#1": 1 / 1.1}
    lines = (tmp_path / "evaluation" / "scores.jsonl").read_text().splitlines()
    assert [json.loads(line)["scores"]["twice/text/overlap"] for line in lines] == [0.0, 1 / 1.1]


def test_ids_may_hold_any_sign(tmp_path: Path) -> None:
    own = "caf\u2028e\u0085"
    messages = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "a"}]
    (tmp_path / "asked.jsonl").write_text(json.dumps({"id": own, "messages": messages}) + "\n")
    (tmp_path / "answers").mkdir()
    (tmp_path / "answers/asked.jsonl").write_text('{"index": 0, "text": "a"}\n')
    asked = {"asked": JsonLines(tmp_path / "asked.jsonl")}
    for _ in range(2):  # the second reads the file of the first
        measure_stored([Evaluation(METRICS)], asked, tmp_path / "answers", tmp_path / "out")
    scores = read_scores(tmp_path / "out/evaluation/scores.jsonl")
    assert list(scores["asked/text/overlap"]) == [own]
