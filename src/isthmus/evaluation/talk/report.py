"""Scored replies -> the figures of a talk test, each a share with its interval and number, and as a table."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from isthmus.evaluation.intervals import CONFIDENCE, bootstrap_interval, wilson_interval
from isthmus.evaluation.talk.perplexity import TextLoss

DIGITS = 4
REQUESTS = ("natural", "spoken")
"""Tasks whose replies are scored by intent, attributes and words."""
Sample = Mapping[str, Any]
"""A scored reply as plain data, see :mod:`isthmus.evaluation.talk.evaluation`."""


def share(flags: Iterable[bool]) -> dict[str, Any] | None:
    """The share of true ones, with its interval; None if there are none at all."""
    found = list(flags)
    if not found:
        return None
    low, high = wilson_interval(sum(found), len(found))
    return {
        "share": round(sum(found) / len(found), DIGITS),
        "n": len(found),
        "interval": [round(low, DIGITS), round(high, DIGITS)],
    }


def talk_report(samples: Sequence[Sample], losses: Mapping[str, Sequence[TextLoss]]) -> dict[str, Any]:
    """The figures: ``natural`` and ``spoken`` requests by kind, ``plain`` questions, and ``perplexity``.

    Args:
        samples: the scored replies, of all processes.
        losses: of plain texts, by the name of their set.
    """
    tasks = _grouped(samples, lambda sample: sample["task"])
    return {
        **{task: _requests(tasks.get(task, [])) for task in REQUESTS},
        "plain": _plain(tasks.get("plain", [])),
        "perplexity": {name: _perplexity(own) for name, own in losses.items() if own},
        "confidence": CONFIDENCE,
    }


def _requests(samples: Sequence[Sample]) -> dict[str, Any]:
    """Over all, by kind of request, and of what was made by modality."""
    with_media = [sample for sample in samples if sample["media"]]
    return {
        "all": _figures(samples),
        "kinds": {kind: _figures(own) for kind, own in _grouped(samples, lambda sample: sample["kind"]).items()},
        "made": {
            made: _figures(own) for made, own in _grouped(with_media, lambda sample: "+".join(sample["media"])).items()
        },
    }


def _figures(samples: Sequence[Sample]) -> dict[str, Any]:
    """``intent``: exactly the media asked for; ``attributes``: of these, all as asked for; ``right``: everything."""
    return {
        "intent": share(sample["intent"] for sample in samples),
        "attributes": share(sample["attributes"] for sample in samples if sample["attributes"] is not None),
        "right": share(sample["right"] for sample in samples),
    }


def _plain(samples: Sequence[Sample]) -> dict[str, Any]:
    """``no_medium``; what the LLM ``knew`` before tuning and ``knows`` now; of the former, what is ``kept``."""
    if not samples:
        return {}
    kinds = _grouped(samples, lambda sample: sample["kind"])
    return {
        "no_medium": share(not sample["made"] for sample in samples),
        "knew": share(sample["before_right"] for sample in samples),
        "knows": share(sample["right"] for sample in samples),
        "kept": share(sample["right"] for sample in samples if sample["before_right"]),
        "kinds": {
            kind: {
                "knew": sum(sample["before_right"] for sample in own),
                "kept": sum(sample["right"] for sample in own if sample["before_right"]),
                "n": len(own),
            }
            for kind, own in kinds.items()
        },
    }


def _perplexity(losses: Sequence[TextLoss]) -> dict[str, Any]:
    """Perplexities a token, and their ratio, whose interval is drawn over the texts."""
    tokens = sum(loss.tokens for loss in losses)
    changes = [(loss.after - loss.before) / loss.tokens for loss in losses]
    low, high = bootstrap_interval(changes)
    return {
        "before": round(math.exp(sum(loss.before for loss in losses) / tokens), 3),
        "after": round(math.exp(sum(loss.after for loss in losses) / tokens), 3),
        "ratio": round(math.exp(sum(changes) / len(changes)), DIGITS),
        "interval": [round(math.exp(low), DIGITS), round(math.exp(high), DIGITS)],
        "texts": len(losses),
        "tokens": tokens,
    }


def _grouped(samples: Iterable[Sample], key: Callable[[Sample], str]) -> dict[str, list[Sample]]:
    groups: dict[str, list[Sample]] = {}
    for sample in samples:
        groups.setdefault(key(sample), []).append(sample)
    return dict(sorted(groups.items()))


def talk_table(report: Mapping[str, Any]) -> str:
    """The report as aligned lines of text."""
    rows: list[tuple[str, Mapping[str, Any] | None]] = []
    for task in REQUESTS:
        for figures in ({"requests": report[task]["all"]}, report[task]["kinds"], report[task]["made"]):
            for name, own in figures.items():
                rows += [(f"{task} {name}: {measure}", own[measure]) for measure in ("intent", "attributes", "right")]
    for name, says in (
        ("no_medium", "answered without a medium"),
        ("knew", "facts right before tuning"),
        ("knows", "facts right now"),
        ("kept", "of those right before, right now"),
    ):
        rows.append((f"plain questions: {says}", report["plain"].get(name)))
    shown = [(label, own) for label, own in rows if own is not None]
    width = max((len(label) for label, _ in shown), default=0)
    lines = [
        f"{label.ljust(width)}  {own['share']:.3f} [{own['interval'][0]:.2f}, {own['interval'][1]:.2f}] of {own['n']}"
        for label, own in shown
    ]
    for name, own in report["perplexity"].items():
        low, high = own["interval"]
        lines.append(
            f"{f'perplexity of {name}'.ljust(width)}  {own['before']:.2f} before, {own['after']:.2f} now: times "
            f"{own['ratio']:.3f} [{low:.2f}, {high:.2f}] over {own['texts']} texts, {own['tokens']} tokens"
        )
    return "\n".join([*lines, f"shares with their {report['confidence']:.0%} intervals"])
