"""Caption metrics against the figures of the COCO caption evaluation, and their properties."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isthmus.evaluation.captions.metrics import bleu, caption_report, cider, rouge_l, split_words
from isthmus.evaluation.intervals import bootstrap_interval

WORDS = st.lists(st.sampled_from("a red cat sat on the mat by sea".split()), min_size=1, max_size=8)


@pytest.fixture(scope="module")
def golden(shared: Path) -> dict[str, Any]:
    file = shared / "data" / "chat_metrics" / "golden_caption_metrics.json"
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return found


@pytest.mark.parametrize("name", ["nlg_eval", "coco80_leave_one_out"])
def test_equals_the_coco_evaluation(golden: dict[str, Any], name: str) -> None:
    own = golden[name]
    said, expected = [each.split() for each in own["hyp"]], [[one.split() for one in each] for each in own["refs"]]
    scores = own["scores"]
    assert bleu(said, expected) == pytest.approx([scores[f"Bleu_{order}"] for order in range(1, 5)], abs=1e-6)
    for metric, found in (("ROUGE_L", rouge_l(said, expected)), ("CIDEr", cider(said, expected))):
        assert sum(found) / len(found) == pytest.approx(scores[metric], abs=1e-6)
        if "per_item" in own:
            assert found == pytest.approx(own["per_item"][metric], abs=1e-6)


@settings(deadline=None, max_examples=50)
@given(st.lists(WORDS, min_size=2, max_size=6))
def test_a_reference_is_its_own_best_caption(captions: list[list[str]]) -> None:
    references = [[caption] for caption in captions]
    assert rouge_l(captions, references) == pytest.approx([1.0] * len(captions))
    moved = captions[1:] + captions[:1]
    for best, other in zip(cider(captions, references), cider(moved, references), strict=True):
        assert -1e-9 <= other <= best + 1e-9 <= 10 + 1e-6


def test_the_report_counts_exact_captions_and_says_how_sure_it_is() -> None:
    references = [["A red cat."], ["the blue sea"], ["a mat"], ["a dog", "the dog"]]
    report = caption_report(["a red cat", "the sea", "a mat!", "the dog"], references)
    assert report["n"] == 4 and report["exact"] == 0.75
    low, high = bootstrap_interval([1.0, 0.0, 1.0, 1.0])
    assert report["exact_interval"] == (low, high) and 0 <= low < 0.75 < high <= 1


def test_the_interval_holds_the_mean_about_as_often_as_it_says() -> None:
    drawn = random.Random(0)
    held = 0
    for _ in range(200):
        low, high = bootstrap_interval([float(drawn.random() < 0.3) for _ in range(60)])
        held += low <= 0.3 <= high
    assert 175 <= held <= 200


def test_splits_words_as_captions_are_compared() -> None:
    assert split_words('A "Red" cat\'s toy, e.g. (blue)!') == ["a", "red", "cat's", "toy", "e", "g", "blue"]
    assert split_words("keycap #") == ["keycap", "#"]


def test_a_caption_without_references_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one caption"):
        caption_report([], [])
    with pytest.raises(ValueError, match="a reference of each"):
        caption_report(["a"], [[]])


SPLIT = {
    "一只红色的猫。": list("一只红色的猫"),
    "「赤い猫」が、すわる！": list("赤い猫がすわる"),  # noqa: RUF001
    "猫2匹 and ２ ＣＡＴＳ？": ["猫", "2", "匹", "and", "2", "cats"],  # noqa: RUF001
    "แมวสีแดง": ["แ", "ม", "ว", "สี", "แ", "ด", "ง"],
    "ปู่กิน": ["ปู่", "กิ", "น"],
    "빨간 고양이.": ["빨간", "고양이"],
    "लाल बिल्ली।": ["लाल", "बिल्ली"],
    "кошка – «красная»…": ["кошка", "красная"],
    "it’s a dog's café": ["it's", "a", "dog's", "café"],  # noqa: RUF001
    "ｶﾞラス": ["ガ", "ラ", "ス"],
}


@pytest.mark.parametrize("caption", SPLIT)
def test_scripts_without_spaces_are_split_by_characters(caption: str) -> None:
    assert split_words(caption) == SPLIT[caption]


@pytest.mark.parametrize("captions", [("一只红色的猫坐着", "一只红色的狗坐着"), ("แมวสีแดงนั่ง", "แมวสีดำนั่ง")])
def test_one_wrong_character_leaves_figures_above_zero(captions: tuple[str, str]) -> None:
    said, expected = captions
    report = caption_report([said, "x"], [[expected], ["x"]])
    assert all(0 < float(str(report[name])) < 1 for name in ("bleu_1", "bleu_4", "rouge_l"))
    assert report["exact"] == 0.5 and caption_report([f"{said}。"], [[said]])["exact"] == 1


def test_bleu_measures_brevity_by_the_shorter_of_equally_near_references() -> None:
    said, shorter, longer = ("one two three four five", "one two three four", "one two three four five six")
    found = [bleu([said.split()], [[one.split() for one in own]]) for own in ((longer, shorter), (shorter, longer))]
    assert found[0] == found[1] == pytest.approx([1.0] * 4)
