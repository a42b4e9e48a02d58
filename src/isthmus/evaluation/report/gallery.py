"""The gallery: the matrix and sample conversations, as one self-contained page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from isthmus.display.embedding import embedded
from isthmus.display.pages import shown_text
from isthmus.evaluation.matrix.measurement import JudgedReply
from isthmus.evaluation.matrix.scoring import AFTER, ANSWER, BEFORE
from isthmus.evaluation.matrix.table import attribute_names
from isthmus.evaluation.matrix.tally import all_places
from isthmus.evaluation.report.pages import own_file, piece, rendered
from isthmus.types import Media
from isthmus.writing import write_file

LEVELS = 20
"""Number of shades of the table's colour scale, from 0 to 1."""


def write_gallery(path: Path, samples: Sequence[JudgedReply], matrix: Mapping[str, Any]) -> Path:
    """Writes the self-contained page, and returns its path.

    Its content security policy forbids any fetch and any script but its own; all text is escaped.

    Args:
        path: of the HTML file.
        samples: conversations, which are grouped by cell.
        matrix: from :func:`isthmus.evaluation.matrix.table.matrix_report`.
    """
    shades = "\n".join(f".shade-{level} {{ --share: {level / LEVELS:.0%}; }}" for level in range(LEVELS + 1))
    values = {
        "names": attribute_names(matrix),
        "table": _table(matrix),
        "sums": [_cell("arithmetic", output, entry) for output, entry in matrix["arithmetic"].items()],
        "text_only": _text_only(matrix["text_only"]),
        "confidence": f"{matrix['confidence']:.0%}",
        "groups": _groups(samples),
    }
    write_file(path, rendered("gallery.html.jinja", own_file("gallery.css") + shades, values))
    return path


def _table(matrix: Mapping[str, Any]) -> dict[str, Any]:
    pairs = [cell.split("->") for cell in matrix["cells"]]
    inputs, outputs = (list(dict.fromkeys(pair[side] for pair in pairs)) for side in (0, 1))
    rows = [
        (given, [_cell("matrix", f"{given}->{output}", matrix["cells"][f"{given}->{output}"]) for output in outputs])
        for given in inputs
    ]
    return {"outputs": outputs, "rows": rows}


def _cell(task: str, cell: str, entry: Mapping[str, Any] | None) -> dict[str, Any]:
    if entry is None:
        return {"anchor": None, "name": cell, "shade": None}
    names = list(entry["by_attribute"])
    low, high = entry["interval"][names[0]]
    return {
        "anchor": _anchor(task, cell),
        "name": cell,
        "shade": round(entry[names[0]] * LEVELS),
        "first": f"{entry[names[0]]:.1%}",
        "interval": f"{low:.0%} to {high:.0%}",
        "others": [(name, f"{entry[name]:.0%}") for name in names[1:]],
        "n": entry["n"],
        "bounds": [
            (name, f"{entry[name]:.0%}")
            for name in ("chance", "ceiling", "judge", "emitted")
            if entry[name] is not None
        ],
    }


def _text_only(figures: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    return [
        (name, f"{figures[name]:.1%}", "{:.0%} to {:.0%}".format(*figures["interval"][name]))
        for name in (BEFORE, AFTER)
        if name in figures
    ]


def _anchor(task: str, cell: str) -> str:
    return f"{task}-{cell.replace('->', '-to-')}"


def _groups(samples: Sequence[JudgedReply]) -> list[dict[str, Any]]:
    """The conversations of each cell, in the matrix's order."""
    titles = {"matrix": "{}", "arithmetic": "sum of image and audio -> {}", "text_only": "text only, {} tuning"}
    groups = []
    for task, cell in all_places():
        own = [
            sample
            for sample in samples
            if (sample.verdict.expectation.task, sample.verdict.expectation.cell) == (task, cell)
        ]
        if own:
            title = titles[task].format(cell).replace("->", " → ")
            conversations = [_conversation(sample) for sample in own]
            groups.append({"anchor": _anchor(task, cell), "title": title, "conversations": conversations})
    return groups


def _conversation(sample: JudgedReply) -> dict[str, Any]:
    turns = [{"role": message.role, "pieces": [piece(item) for item in message.content]} for message in sample.messages]
    made = [embedded(each) if isinstance(each, Media) else shown_text(each) for each in sample.reply.content]
    turns.append({"role": "assistant", "pieces": made or [shown_text("(nothing)")]})
    verdict = sample.verdict
    chips = []
    for name, is_right in verdict.right.items():
        wanted, read = verdict.expectation.values[name], verdict.reading.get(name)
        label = "" if name == ANSWER else f"{name} "
        value = "nothing" if read is None else str(read)
        chips.append({"right": is_right, "text": f"{label}{wanted}" if is_right else f"{label}{wanted}, read {value}"})
    if not verdict.emitted:
        chips.append({"right": False, "text": f"no {verdict.expectation.output} given"})
    return {"turns": turns, "chips": chips, "right": all(verdict.right.values())}
