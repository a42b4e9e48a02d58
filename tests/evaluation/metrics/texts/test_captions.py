"""Caption metrics over stored answers: equal to the COCO evaluation's, METEOR and SPICE by its own programs."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from tiny_answers import answered

from isthmus.evaluation.metrics.base import Processes
from isthmus.evaluation.metrics.texts.captions import CaptionMetrics
from isthmus.evaluation.metrics.texts.java import coco_words
from isthmus.evaluation.metrics.texts.meteor import Meteor
from isthmus.evaluation.metrics.texts.spice import PARSER, Spice

needs_java = pytest.mark.skipif(shutil.which("java") is None, reason="there is no Java")


@pytest.fixture(scope="module")
def golden(shared: Path) -> dict[str, Any]:
    file = shared / "data" / "chat_metrics" / "golden_caption_metrics.json"
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return found


def golden_answers(own: dict[str, Any]) -> list[Any]:
    pairs = zip(own["hyp"], own["refs"], strict=True)
    return [answered(said, place, captions=expected) for place, (said, expected) in enumerate(pairs)]


@pytest.mark.parametrize("splitter", ["plain", pytest.param("coco", marks=needs_java)])
def test_figures_equal_the_coco_evaluations(golden: dict[str, Any], splitter: Any) -> None:
    own = golden["coco80_leave_one_out"]
    figures = CaptionMetrics("captions", splitter).measure(golden_answers(own), Processes())
    # These captions were split beforehand; the toolkit's program splits a few once more, at a dash or before 's.
    near = 1e-5 if splitter == "plain" else 1e-2
    names = {"bleu_1": "Bleu_1", "bleu_4": "Bleu_4", "rouge_l": "ROUGE_L", "cider_d": "CIDEr"}
    for name, theirs in names.items():
        assert figures[f"text/{name}"].value == pytest.approx(own["scores"][theirs], abs=near)
        assert figures[f"text/{name}"].n == 80 and figures[f"text/{name}"].protocol["splitter"] == splitter
    for name in ("rouge_l", "cider_d"):
        figure = figures[f"text/{name}"]
        assert figure.scores is not None and figure.interval is not None
        assert sum(figure.scores.values()) / 80 == pytest.approx(figure.value)
        assert figure.interval[0] < figure.value < figure.interval[1]


@needs_java
def test_words_are_those_of_the_coco_evaluation() -> None:
    said = {
        "A man's dog, (really) - can't sit.": "a man 's dog -lrb- really -rrb- ca n't sit",
        "": "",
        "one\nline\u2028only\x0c": "one line only",
        "café “ok”; U.S.A. 5.5!": "café ok u.s.a. 5.5",
    }
    assert coco_words(list(said)) == [words.split() for words in said.values()]


@needs_java
@pytest.mark.slow
def test_meteor_is_the_published_one(golden: dict[str, Any]) -> None:
    own = golden["nlg_eval"]
    figure = Meteor("captions").measure(golden_answers(own), Processes())["text/meteor"]
    assert figure.value == pytest.approx(own["published"]["METEOR"], abs=1e-6)
    assert figure.n == 2 and figure.scores is None and figure.protocol["library"] == "pycocoevalcap 1.2"


@needs_java
@pytest.mark.slow
def test_spice_counts_shared_facts() -> None:
    parser = os.environ.get("ISTHMUS_SPICE_PARSER", "")
    if not parser:
        pytest.skip("ISTHMUS_SPICE_PARSER names no folder of Stanford's parser")
    answers = [
        answered("a red cat sits on a mat", 0, captions=["a red cat is sitting on a mat"]),
        answered("a dog runs", 1, captions=["two boats on the sea"]),
    ]
    figures = Spice(Path(parser), "captions").measure(answers, Processes())
    scores = figures["text/spice"].scores
    assert scores is not None and scores["set/0"] == 1 and scores["set/1"] == 0
    grams = CaptionMetrics("captions", "coco").measure(answers, Processes())["text/cider_d"]
    assert figures["text/spider"].value == pytest.approx((figures["text/spice"].value + grams.value) / 2)


def test_what_spice_lacks_is_named(tmp_path: Path) -> None:
    (tmp_path / PARSER[0]).touch()
    with pytest.raises(ValueError, match=r"found no stanford-corenlp-3\.6\.0-models\.jar; expected Stanford's parser"):
        Spice(tmp_path)


def test_without_java_the_fix_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ValueError, match="found no such command; expected Java"):
        Meteor().measure([answered("a", expected="b")], Processes())


def test_faults_are_named() -> None:
    with pytest.raises(ValueError, match="splitter: found 'ptb'; expected plain or coco"):
        CaptionMetrics(splitter="ptb")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="answers: found none"):
        CaptionMetrics().measure([], Processes())
    with pytest.raises(ValueError, match="set/0: found no words in the expected message"):
        CaptionMetrics().measure([answered("a")], Processes())
    with pytest.raises(ValueError, match="found no 'captions' among caption; expected the detail"):
        CaptionMetrics("captions").measure([answered("a", caption="b")], Processes())
    with pytest.raises(ValueError, match=r"details\.captions: found \[\]; expected a text, or a list"):
        CaptionMetrics("captions").measure([answered("a", captions=[])], Processes())
