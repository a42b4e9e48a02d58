"""What a rehearsal found, as tables and as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field


@dataclass(frozen=True)
class Part:
    """A part's parameters: all of them, those that some stage trains, and the bytes that they take."""

    parameters: int
    trained: int
    weights: int


@dataclass(frozen=True)
class Step:
    """A step of a stage.

    Attributes:
        rows: conversations of the batch.
        positions: of all of them together, and of the longest.
        flops: floating-point operations by part; "all else" holds what runs in none of them.
        peak: the most bytes of tensors at once.
        at_peak: these bytes by what held them.
    """

    rows: int
    positions: tuple[int, int]
    flops: Mapping[str, int]
    peak: int
    at_peak: Mapping[str, int]


@dataclass
class Report:
    """All of it; ``notes`` say what wasn't rehearsed."""

    parts: dict[str, Part] = field(default_factory=dict)
    stages: dict[str, Step] = field(default_factory=dict)
    answer: Step | None = None
    notes: list[str] = field(default_factory=list)

    def as_json(self) -> str:
        """One object."""
        return json.dumps(asdict(self), indent=2)

    def as_text(self) -> str:
        """Tables of parts, of stages, and of what fills memory at its peak."""
        parts = [("part", "parameters", "trained", "weights, GB")]
        parts += [
            (name, f"{own.parameters:,}", f"{own.trained:,}", f"{own.weights / 1e9:.2f}")
            for name, own in self.parts.items()
        ]
        blocks = [table(parts)]
        steps = self.stages | ({"an answer": self.answer} if self.answer is not None else {})
        for name, step in steps.items():
            total, longest = step.positions
            blocks.append(
                f"{name}: {step.rows} rows of {total} positions (at most {longest}), "
                f"{sum(step.flops.values()) / 1e12:.2f} TFLOP, peak {step.peak / 1e9:.2f} GB"
            )
            names = sorted({*step.flops, *step.at_peak}, key=lambda own: -step.at_peak.get(own, 0))
            rows = [("  part", "TFLOP", "GB at the peak")]
            rows += [
                (f"  {own}", f"{step.flops.get(own, 0) / 1e12:.3f}", f"{step.at_peak.get(own, 0) / 1e9:.3f}")
                for own in names
                if step.flops.get(own, 0) >= 1e9 or step.at_peak.get(own, 0) >= 1e6
            ]
            blocks.append(table(rows))
        blocks.append("\n".join(self.notes))
        return "\n\n".join(blocks)


def table(rows: Sequence[tuple[str, ...]]) -> str:
    """Rows of equally many cells, the first column to the left and the others to the right."""
    first, *others = (max(map(len, column)) for column in zip(*rows, strict=True))
    lines = []
    for name, *figures in rows:
        cells = [figure.rjust(width) for figure, width in zip(figures, others, strict=True)]
        lines.append("  ".join([name.ljust(first), *cells]))
    return "\n".join(lines)
