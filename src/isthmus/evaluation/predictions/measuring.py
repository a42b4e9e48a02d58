"""Metrics over stored answers, and the files of their figures."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from isthmus.evaluation.comparing.stored import METRICS, SCORES
from isthmus.evaluation.metrics.base import Figure, Metric, Processes
from isthmus.evaluation.predictions.answers import Answers
from isthmus.evaluation.report.chosen import SourceAnswers
from isthmus.evaluation.report.evaluation_report import write_evaluation_report
from isthmus.writing import write_file


def measure(
    metrics: Mapping[str, Metric],
    answers: Mapping[str, Answers],
    sources: Mapping[str, Sequence[str]],
    processes: Processes,
) -> dict[str, Figure]:
    """Every metric of every source, by ``source/modality/metric``; all processes call this and get the same.

    Args:
        metrics: by name.
        answers: by source.
        sources: metric -> the sources that it is measured on; all where it isn't named.
        processes: that share the work.

    Raises:
        ValueError: two metrics give a figure of the same name, or an answer lacks what is measured.
    """
    figures: dict[str, Figure] = {}
    makers: dict[str, str] = {}
    for source, own in answers.items():
        for name, metric in metrics.items():
            if name in sources and source not in sources[name]:
                continue
            for figure, value in metric.measure(own, processes).items():
                whole = f"{source}/{figure}"
                if whole in figures:
                    raise ValueError(
                        f"metrics.{name}: found the figure {whole}, which metrics.{makers[whole]} gives, too; expected "
                        "another name. Fix: take one of the metrics out, or name it otherwise where it has such an "
                        "argument."
                    )
                figures[whole], makers[whole] = value, name
    return figures


def write_figures(
    folder: Path, figures: Mapping[str, Figure], protocol: Mapping[str, Any], answers: Mapping[str, Answers], of: Path
) -> None:
    """Writes ``metrics.json``, ``scores.jsonl`` and the report. Figures of other sources by the same protocol stay.

    Args:
        folder: where to.
        figures: by name.
        protocol: of the whole run.
        answers: by source.
        of: the folder of the answers.

    Raises:
        ValueError: a file can't be written.
    """
    content: dict[str, Any] = {
        "figures": {name: _plain(figure) for name, figure in figures.items()},
        "protocol": dict(protocol),
        "predictions": _place(of.absolute(), folder.absolute()),
    }
    lines = [
        {"source": name, "index": index, "id": own, "scores": _scores(figures, name, own)}
        for name, answered in answers.items()
        for index, own in answered.ids()
    ]
    earlier = _earlier(folder / METRICS)
    if earlier is not None and _comparable(earlier, content):
        kept = {name: own for name, own in earlier["figures"].items() if name.partition("/")[0] not in answers}
        content["figures"] = kept | content["figures"]
        content["protocol"]["test"] = earlier["protocol"].get("test", {}) | content["protocol"].get("test", {})
        lines = [line for line in _read_scores(folder / SCORES) if line["source"] not in answers] + lines
    write_file(folder / SCORES, "".join(f"{json.dumps(line, ensure_ascii=False)}\n" for line in lines).encode())
    write_file(folder / METRICS, (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode())
    write_evaluation_report(folder, shown_answers(answers))


def shown_answers(answers: Mapping[str, Answers]) -> dict[str, SourceAnswers]:
    """By source the answers as a report reads them."""
    return {name: SourceAnswers([own for _, own in each.ids()], each.__getitem__) for name, each in answers.items()}


def figures_table(figures: Mapping[str, Figure]) -> str:
    """The figures as text, one a line, with their intervals."""
    width = max((len(name) for name in figures), default=0)
    return "\n".join(f"{name.ljust(width)}  {_told(figure)}" for name, figure in figures.items())


def _place(answers: Path, folder: Path) -> str:
    """Where the answers lie: below the folder that is written, relative to it, so that both may be moved together."""
    return str(answers.relative_to(folder) if answers.is_relative_to(folder) else answers)


def _told(figure: Figure) -> str:
    interval = "" if figure.interval is None else "({:.3f} to {:.3f})".format(*figure.interval)
    arrow = "higher is better" if figure.better == "higher" else "lower is better"
    return f"{figure.value:10.4f}  {interval:20}  n {figure.n}, {arrow}"


def _plain(figure: Figure) -> dict[str, Any]:
    plain: dict[str, Any] = json.loads(json.dumps(dict(figure.protocol), default=str))
    interval = None if figure.interval is None else [float(bound) for bound in figure.interval]
    return {
        "value": float(figure.value),
        "n": figure.n,
        "better": figure.better,
        "interval": interval,
        "protocol": plain,
    }


def _scores(figures: Mapping[str, Figure], source: str, own: str) -> dict[str, float]:
    return {
        name: float(figure.scores[own])
        for name, figure in figures.items()
        if name.startswith(f"{source}/") and figure.scores is not None and own in figure.scores
    }


def _earlier(path: Path) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:  # it is replaced
        return None
    return found


def _comparable(earlier: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """Whether two files have figures of the same answers by one protocol, the test sources aside."""
    one, other = ({**each["protocol"], "test": None} for each in (earlier, now))
    return earlier.get("predictions") == now["predictions"] and bool(one == other)


def _read_scores(path: Path) -> Iterable[Any]:
    # Ids may hold other signs at which Python would part lines, as U+2028.
    lines = path.read_text(encoding="utf-8").split("\n") if path.is_file() else []
    return [json.loads(line) for line in lines if line]
