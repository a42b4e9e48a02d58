"""Figures as files hold them: an evaluation's ``metrics.json`` with its scores, and what other test runs write."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

METRICS, SCORES, FOLDER = "metrics.json", "scores.jsonl", "evaluation"
"""An evaluation's files, and the folder of a run that holds them."""
PROTOCOL = "protocol"
"""The field of a result file that says how it was measured."""
ARROWS = {"higher": "↑", "lower": "↓"}
"""Which values are better, as tables show it."""
BESIDE = {PROTOCOL, "samples", "interval", "by_attribute", "confidence", "n"}
"""Fields of a result file that aren't figures: :mod:`isthmus.evaluation` says what each file holds."""
AGAIN = "Fix: compute the figures again with isthmus evaluate."
LOWER = {"median_rank", "unrequested"}
"""Figures of older result files of which less is better; newer files say it of each figure."""


@dataclass(frozen=True)
class StoredFigure:
    """A figure of a file.

    Attributes:
        value: the number.
        n: how many conversations it is of; None where the file doesn't say.
        better: ``higher`` or ``lower``.
        interval: that holds the true value with probability 0.95.
        protocol: how it was measured; None where the file is of a version that didn't write it.
        scores: by a conversation's id, where the value is their mean.
    """

    value: float
    n: int | None = None
    better: str = "higher"
    interval: tuple[float, float] | None = None
    protocol: Mapping[str, Any] | None = None
    scores: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Result:
    """A result file: its path, and its figures by name."""

    path: Path
    figures: Mapping[str, StoredFigure]


def results_in(folder: Path) -> dict[str, Result]:
    """The result files of a run's folder, by their path in it; other JSON files are passed over.

    Raises:
        ValueError: an evaluation's own file is damaged.
    """
    found = {}
    own = [path for path in (folder / FOLDER / METRICS, folder / METRICS) if path.is_file()]
    for path in own[:1]:
        found[path.relative_to(folder).as_posix()] = read_result(path)
    for path in sorted(folder.glob("*.json")):
        if path.name not in ("manifest.json", METRICS):
            try:
                found[path.name] = read_result(path)
            except ValueError:
                continue
    return found


def read_result(path: Path) -> Result:
    """The figures of a file.

    Raises:
        ValueError: it isn't a result file.
    """
    content = read_json(path)
    if isinstance(content, dict) and isinstance(content.get("figures"), dict):
        return Result(path, _evaluated(path, content))  # an evaluation that only answers has none
    figures = dict(_earlier(content)) if isinstance(content, dict) else {}
    if not figures:
        raise ValueError(f"{path}: found no figures; expected what a test run writes, as {METRICS} or matrix.json.")
    return Result(path, figures)


def read_json(path: Path) -> Any:
    """A file's content.

    Raises:
        ValueError: it can't be read.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(
            f"{path}: it can't be read as JSON ({error}). Fix: name a result file, as {METRICS} or matrix.json."
        ) from error


def read_scores(path: Path) -> dict[str, dict[str, float]]:
    """Figure -> a conversation's id -> its score, of an evaluation's ``scores.jsonl``; empty where there is no file.

    Raises:
        ValueError: a line isn't in its form.
    """
    found: dict[str, dict[str, float]] = {}
    if not path.is_file():
        return found
    for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), start=1):
        if not line:  # after the last; other signs at which Python would part lines, as U+2028, may be in an id
            continue
        try:
            record = json.loads(line)
            scores = {str(name): float(score) for name, score in record["scores"].items()}
            own = str(record["id"])
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(
                f"{path}:{number}: found {line[:80]!r}; expected an object with id and scores ({error!r}). {AGAIN}"
            ) from error
        for name, score in scores.items():
            found.setdefault(name, {})[own] = score
    return found


def _evaluated(path: Path, content: Mapping[str, Any]) -> dict[str, StoredFigure]:
    """The figures of ``metrics.json``; each has the part of the run's protocol that decides over it."""
    run = content.get(PROTOCOL) or {}
    scores = read_scores(path.parent / SCORES)
    found = {}
    for name, own in content["figures"].items():
        try:
            interval = own.get("interval")
            found[name] = StoredFigure(
                float(own["value"]),
                int(own["n"]),
                str(own["better"]),
                None if interval is None else (float(interval[0]), float(interval[1])),
                {**_of_figure(run, name), "n": int(own["n"]), **(own.get(PROTOCOL) or {})},
                scores.get(name, {}),
            )
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            raise ValueError(
                f"{path}: figures.{name}: found {str(own)[:80]!r}; expected value, n and better ({error!r}). {AGAIN}"
            ) from error
    return found


def _of_figure(run: Mapping[str, Any], name: str) -> dict[str, Any]:
    """A run's protocol without other test sets, and without generators of other media than the figure's."""
    source, modality = (*name.split("/"), "", "")[:2]
    kept = dict(run)
    for key, wanted in (("test", source), ("generators", modality)):
        if isinstance(kept.get(key), Mapping):
            kept[key] = {own: value for own, value in kept[key].items() if own == wanted}
    return kept


def _earlier(content: Mapping[str, Any]) -> Iterator[tuple[str, StoredFigure]]:
    """Dotted name -> figure, of ``matrix.json`` and its like."""
    protocol = content.get(PROTOCOL)
    for name, value, interval, n in _numbers(content):
        own = None if protocol is None else {**protocol, "n": n}
        lower = name.rpartition(".")[2] in LOWER or name.startswith("perplexity.")
        yield name, StoredFigure(value, n, "lower" if lower else "higher", interval, own)


def _numbers(
    content: Mapping[str, Any], prefix: str = "", n: int | None = None
) -> Iterator[tuple[str, float, tuple[float, float] | None, int | None]]:
    n = content["n"] if isinstance(content.get("n"), int) else n
    for key, value in content.items():
        if key in BESIDE or key.endswith("_interval"):
            continue
        if isinstance(value, dict):
            yield from _numbers(value, f"{prefix}{key}.", n)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield f"{prefix}{key}", float(value), _interval(content, key), n


def _interval(content: Mapping[str, Any], key: str) -> tuple[float, float] | None:
    beside = content.get("interval")
    own = beside.get(key) if isinstance(beside, dict) else beside if key == "share" else None
    bounds = content.get(f"{key}_interval") or own
    if isinstance(bounds, list) and len(bounds) == 2 and all(isinstance(each, int | float) for each in bounds):
        return float(bounds[0]), float(bounds[1])
    return None
