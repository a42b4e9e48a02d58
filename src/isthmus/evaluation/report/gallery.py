"""The gallery: the matrix and sample conversations, as one self-contained page."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping, Sequence
from hashlib import sha256
from importlib.resources import files
from pathlib import Path
from typing import Any

from isthmus.data.conversations.schema import ContentItem, MediumItem, TextItem
from isthmus.data.media.files import read_media
from isthmus.display.embedding import embedded
from isthmus.display.pages import script as clouds_script
from isthmus.display.pages import shown_text, templates
from isthmus.display.pages import style as media_style
from isthmus.evaluation.matrix.measurement import JudgedReply
from isthmus.evaluation.matrix.scoring import AFTER, ANSWER, BEFORE
from isthmus.evaluation.matrix.table import attribute_names
from isthmus.evaluation.matrix.tally import all_places
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
    here = files(__package__)
    shades = "\n".join(f".shade-{level} {{ --share: {level / LEVELS:.0%}; }}" for level in range(LEVELS + 1))
    style = media_style() + here.joinpath("gallery.css").read_text(encoding="utf-8") + shades
    script = clouds_script()
    template = templates().from_string(here.joinpath("gallery.html.jinja").read_text(encoding="utf-8"))
    policy = (
        f"default-src 'none'; img-src data:; media-src data:; style-src '{_digest(style)}'; "
        f"script-src '{_digest(script)}'; base-uri 'none'; form-action 'none'"
    )
    page = template.render(
        policy=policy,
        style=style,
        script=script,
        names=attribute_names(matrix),
        table=_table(matrix),
        sums=[_cell("arithmetic", output, entry) for output, entry in matrix["arithmetic"].items()],
        text_only=_text_only(matrix["text_only"]),
        confidence=f"{matrix['confidence']:.0%}",
        groups=_groups(samples),
    )
    write_file(path, page.encode())
    return path


def _digest(content: str) -> str:
    return f"sha256-{b64encode(sha256(content.encode()).digest()).decode('ascii')}"


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
    turns = [
        {"role": message.role, "pieces": [_piece(item) for item in message.content]} for message in sample.messages
    ]
    made = [embedded(piece) if isinstance(piece, Media) else shown_text(piece) for piece in sample.reply.content]
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


def _piece(item: ContentItem) -> dict[str, str]:
    match item:
        case TextItem(text):
            return shown_text(text)
        case MediumItem(modality, None, caption):
            return shown_text(f"({modality}: {caption or 'not kept'})")
        case MediumItem(modality, media, _, rate):
            assert media is not None
            return embedded(media if isinstance(media, Media) else read_media(media, modality, rate=rate))
