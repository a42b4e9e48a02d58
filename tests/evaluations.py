"""Writes the files of an evaluation, in the form that :class:`isthmus.evaluation.Evaluation` gives them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

RUN = {"test": {"coco": {"content": "c0"}, "clotho": {"content": "c1"}}, "sampling": {"seed": 0}}


def write_evaluation(
    run: Path,
    scores: Mapping[str, Sequence[float]],
    whole: Mapping[str, Mapping[str, Any]] | None = None,
    protocol: Mapping[str, Any] | None = None,
    own: Mapping[str, Any] | None = None,
) -> Path:
    """An evaluation's folder in a run's.

    Args:
        run: the run's folder.
        scores: of each conversation, by the figure that is their mean.
        whole: figures of a whole set, as ``metrics.json`` has them.
        protocol: the run's.
        own: each figure's.
    """
    folder = run / "evaluation"
    folder.mkdir(parents=True)
    figures = {
        name: {
            "value": sum(values) / len(values),
            "n": len(values),
            "better": "higher",
            "interval": None,
            "protocol": dict(own or {}),
        }
        for name, values in scores.items()
    }
    content = {"figures": figures | dict(whole or {}), "protocol": dict(protocol or RUN)}
    (folder / "metrics.json").write_text(json.dumps(content))
    with (folder / "scores.jsonl").open("w") as file:
        for source in dict.fromkeys(name.split("/")[0] for name in scores):
            own_scores = {name: values for name, values in scores.items() if name.startswith(f"{source}/")}
            for index in range(max(map(len, own_scores.values()))):
                record = {
                    "source": source,
                    "index": index,
                    "id": f"{source}/{index}",
                    "scores": {name: values[index] for name, values in own_scores.items() if index < len(values)},
                }
                file.write(json.dumps(record) + "\n")
    return folder
