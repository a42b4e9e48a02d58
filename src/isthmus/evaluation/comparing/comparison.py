"""Two result files of one protocol, figure by figure; files of different protocols are refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from isthmus.evaluation.comparing.differences import is_brought, protocol_differences
from isthmus.evaluation.comparing.paired import PairedTest, holm, paired_test
from isthmus.evaluation.comparing.stored import FOLDER, METRICS, Result, StoredFigure, read_result
from isthmus.paths import user_path

LEVEL = 0.05
"""A corrected p below this is called a difference."""
SHOWN = 8
"""So many differences of two protocols are named."""


@dataclass(frozen=True)
class Compared:
    """One figure of two files.

    Attributes:
        name: the figure's.
        first: of the first file.
        second: of the second.
        protocol: what differs in how both were measured, with both values; empty where they can be compared.
        test: of the scores of common conversations; None where there are no scores, or another protocol.
        corrected: its p after Holm's correction over all tests of the table.
    """

    name: str
    first: StoredFigure
    second: StoredFigure
    protocol: Mapping[str, Sequence[Any]]
    test: PairedTest | None = None
    corrected: float | None = None

    @property
    def intervals_apart(self) -> bool | None:
        """Whether the two intervals don't meet; None where one isn't known."""
        one, other = self.first.interval, self.second.interval
        return None if one is None or other is None else one[1] < other[0] or other[1] < one[0]

    @property
    def verdict(self) -> str:
        """``better`` or ``worse``: the second beside the first, where they differ by more than chance; else empty."""
        apart = self.corrected < LEVEL if self.corrected is not None else self.test is None and self.intervals_apart
        if self.protocol or not apart:
            return ""
        change = self.second.value - self.first.value if self.test is None else self.test.difference
        return "better" if (change > 0) == (self.first.better == "higher") else "worse"

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "values": [self.first.value, self.second.value],
            "intervals": [self.first.interval, self.second.interval],
            "better": self.first.better,
            "protocol": dict(self.protocol),
            "test": None if self.test is None else {**asdict(self.test), "holm": self.corrected},
            "intervals_apart": self.intervals_apart,
            "verdict": self.verdict,
        }


@dataclass(frozen=True)
class Comparison:
    """Two result files.

    Attributes:
        files: both paths.
        figures: that both have.
        only: figures that one of them has.
        unstated: files that don't say how they were measured.
        brought: files of answers that others have made, whose sampling isn't known and isn't compared.
    """

    files: tuple[Path, Path]
    figures: Sequence[Compared]
    only: tuple[Sequence[str], Sequence[str]]
    unstated: Sequence[Path]
    brought: Sequence[Path]

    @property
    def tested(self) -> int:
        """How many figures were tested, over which p is corrected."""
        return sum(own.test is not None for own in self.figures)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "figures": {own.name: own.as_dict() for own in self.figures},
            "only": {str(path): list(names) for path, names in zip(self.files, self.only, strict=True)},
            "without_protocol": [str(path) for path in self.unstated],
            "answers_of_others": [str(path) for path in self.brought],
            "tested": self.tested,
        }


def compare_runs(
    first: str | Path, second: str | Path, figures: Sequence[str] = (), anyhow: bool = False
) -> Comparison:
    """Compares what ``Evaluation`` has written for two runs.

    Args:
        first: a run's folder, its ``evaluation`` folder, or a result file.
        second: likewise.
        figures: patterns of the figures that are wanted, such as ``coco/text/*``; all if empty.
        anyhow: whether figures of different protocols are given beside each other, without a test.

    Raises:
        ValueError: a file isn't there, or the two were measured by different protocols.
    """
    return compare_results(_result(user_path(first)), _result(user_path(second)), figures, anyhow)


def compare_results(first: Result, second: Result, figures: Sequence[str] = (), anyhow: bool = False) -> Comparison:
    """Compares two files. Arguments and errors as in :func:`compare_runs`."""
    one, other = (
        {name: own for name, own in each.figures.items() if _is_wanted(name, figures)} for each in (first, second)
    )
    common = [name for name in one if name in other]
    rows = [Compared(name, one[name], other[name], protocol_differences(one[name], other[name])) for name in common]
    if not anyhow and (unlike := [row for row in rows if row.protocol]):
        raise ValueError(_refusal(first.path, second.path, unlike, len(rows)))
    tests = [None if row.protocol else paired_test(row.first.scores, row.second.scores) for row in rows]
    corrected = iter(holm([test.p for test in tests if test is not None]))
    tested = [
        Compared(row.name, row.first, row.second, row.protocol, test, None if test is None else next(corrected))
        for row, test in zip(rows, tests, strict=True)
    ]
    only = ([name for name in one if name not in other], [name for name in other if name not in one])
    sides = [(first.path, one), (second.path, other)]
    unstated = [path for path, own in sides if any(own[name].protocol is None for name in common)]
    brought = [path for path, own in sides if any(is_brought(own[name]) for name in common)]
    return Comparison((first.path, second.path), tested, only, unstated, brought)


def told_differences(rows: Sequence[Compared]) -> list[str]:
    """What differs between the protocols of figures, a field a line with both values, up to :data:`SHOWN` of them."""
    fields: dict[str, Sequence[Any]] = {}
    for row in rows:
        for key, values in row.protocol.items():
            if fields.setdefault(key, values) != values:
                fields[f"{key} (of {row.name})"] = values
    shown = [f"{key}: {one} -> {other}" for key, (one, other) in list(fields.items())[:SHOWN]]
    return shown + ([f"and {len(fields) - SHOWN} more"] if len(fields) > SHOWN else [])


def _is_wanted(name: str, patterns: Sequence[str]) -> bool:
    return not patterns or any(fnmatch(name, pattern) for pattern in patterns)


def _result(path: Path) -> Result:
    places = [path / FOLDER / METRICS, path / METRICS] if path.is_dir() else [path]
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        raise ValueError(
            f"{path}: found no {FOLDER}/{METRICS}; expected a run that isthmus.evaluation.Evaluation has measured, or "
            "a result file. Fix: measure it with isthmus evaluate."
        )
    return read_result(found)


def _refusal(first: Path, second: Path, unlike: Sequence[Compared], count: int) -> str:
    """One message: which figures, what differs and both values, and what to do."""
    names = ", ".join(row.name for row in unlike[:3]) + (f" and {len(unlike) - 3} more" if len(unlike) > 3 else "")
    return "\n".join(
        [
            f"{first} and {second}: {len(unlike)} of {count} figures were measured by different protocols, and can't "
            f"be compared ({names}). What differs:",
            *(f"  {line}" for line in told_differences(unlike)),
            "Expected the same on both sides. Fix: measure one of them again with the other's settings, leave figures "
            "out with --figures PATTERN, or see both side by side without a test with --anyhow.",
        ]
    )
