"""Figures of scored replies, each with its interval and number."""

from __future__ import annotations

import math
from typing import Any

import pytest

from isthmus.evaluation.talk.perplexity import TextLoss
from isthmus.evaluation.talk.report import share, talk_report, talk_table


def natural(kind: str, media: list[str], intent: bool, attributes: bool | None) -> dict[str, Any]:
    right = intent and attributes is not False
    return {"task": "natural", "kind": kind, "media": media, "intent": intent, "attributes": attributes, "right": right}


def plain(before: bool, now: bool, made: list[str] | None = None) -> dict[str, Any]:
    return {"task": "plain", "kind": "sums", "made": made or [], "before_right": before, "right": now}


def test_shares_and_tables() -> None:
    samples = [
        natural("make", ["image"], True, True),
        natural("make", ["image"], True, False),
        natural("make", ["audio"], False, None),
        natural("decline", [], True, None),
        *[plain(True, True)] * 3,
        plain(True, False),
        plain(False, True, ["image"]),
    ]
    losses = {
        "prose": [TextLoss(10, 10 * math.log(8), 10 * math.log(10)), TextLoss(30, 30 * math.log(8), 30 * math.log(10))]
    }
    report = talk_report(samples, losses)
    assert report["natural"]["all"]["intent"]["share"] == 0.75 and report["natural"]["all"]["intent"]["n"] == 4
    assert report["natural"]["kinds"]["make"]["attributes"] == share([True, False])
    assert report["natural"]["made"]["audio"] == {"intent": share([False]), "attributes": None, "right": share([False])}
    assert report["natural"]["kinds"]["decline"]["right"]["share"] == 1
    assert report["plain"]["no_medium"]["share"] == 0.8 and report["plain"]["knew"]["share"] == 0.8
    assert report["plain"]["kept"] == {"share": 0.75, "n": 4, "interval": [0.3006, 0.9544]}
    assert report["plain"]["knows"]["share"] == 0.8 and report["plain"]["kinds"]["sums"] == {
        "knew": 4,
        "kept": 3,
        "n": 5,
    }
    prose = report["perplexity"]["prose"]
    assert (prose["before"], prose["after"], prose["tokens"], prose["texts"]) == (8, 10, 40, 2)
    assert prose["ratio"] == pytest.approx(1.25) and prose["interval"] == pytest.approx([1.25, 1.25])
    table = talk_table(report)
    assert "natural requests: intent" in table and "0.750 [0.30, 0.95] of 4" in table
    assert "8.00 before, 10.00 now: times 1.250 [1.25, 1.25] over 2 texts, 40 tokens" in table


def test_what_was_not_measured_is_left_out() -> None:
    report = talk_report([plain(False, False)], {})
    assert report["plain"]["kept"] is None and report["natural"]["all"]["intent"] is None
    assert "natural" not in talk_table(report) and "before, right now" not in talk_table(report)
