"""Upper bounds of the matrix's scores: the judge's accuracy on real media, and the generator's on true captions.

A model can't be better than its generator conditioned on the true caption, and no measured score can exceed its judge.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from isthmus.cache.fingerprint import fingerprint
from isthmus.data.conversations.schema import Conversation, MediumItem, TextItem
from isthmus.data.conversations.sources import ConversationSource
from isthmus.data.media.files import read_media
from isthmus.data.sampling.seeds import derive_seed
from isthmus.evaluation.matrix.judge import Judge, Reading
from isthmus.evaluation.processes import from_all, from_first, process_place
from isthmus.model import AnyToAny
from isthmus.paths import shipped_path
from isthmus.types import Media, Modality

log = logging.getLogger(__name__)

BATCH_SIZE = 16

"""Media that are generated at a time."""


@dataclass(frozen=True)
class Ceiling:
    """The two bounds of one modality, over n reference items.

    Attributes:
        n: number of items.
        judge: the judge's accuracy on real media, by attribute.
        generated: its accuracy on media generated from the true captions, by attribute; None if the model doesn't
            generate the modality. Text is its own caption.
    """

    n: int
    judge: dict[str, float]
    generated: dict[str, float] | None


@dataclass(frozen=True)
class _Item:
    caption: str
    expected: Mapping[str, Any]
    real: Media | str


@torch.no_grad()
def measure_ceilings(
    model: AnyToAny, references: ConversationSource, judges: Mapping[str, Judge], cache: Path | None = None
) -> dict[Modality, Ceiling]:
    """Measures both bounds for every modality that has references and a judge. All processes share the work.

    Args:
        model: only its generators are used, not its bridges and LLM.
        references: conversations that end with an answer of one text or one captioned medium with its file;
            ``details["expect"]`` holds its attributes.
        judges: by modality.
        cache: a JSON file of earlier ceilings, to which new ones are added. An entry is valid for the same generator,
            sampler settings, captions and readings of the real media, and so for the same judge.

    Raises:
        ValueError: a reference doesn't have this form.
    """
    items: dict[Modality, list[_Item]] = {}
    for index in range(len(references)):
        modality, item = _item(references[index], f"{references.name}/{index}")
        if modality in judges:
            items.setdefault(modality, []).append(item)
    return {modality: _measure(model, modality, own, judges[modality], cache) for modality, own in items.items()}


def _measure(model: AnyToAny, modality: Modality, items: list[_Item], judge: Judge, cache: Path | None) -> Ceiling:
    readings = judge.many([item.real for item in items])
    real = _accuracy(readings, items, judge.attributes)
    if modality not in model.outputs:
        return Ceiling(len(items), real, dict(real) if modality is Modality.TEXT else None)
    key = _key(model, modality, items, readings)
    # The first process decides for all: if only some could read the file, they would skip collective operations.
    known = from_first(_read(cache).get(key))
    if known is None:
        made = _accuracy(_generated(model, modality, items, judge), items, judge.attributes)
        known = {"modality": str(modality), "n": len(items), "generated": made}
        if cache is not None and process_place()[0] == 0:
            _write(cache, _read(cache) | {key: known})
    return Ceiling(len(items), real, {str(name): float(share) for name, share in known["generated"].items()})


def _generated(model: AnyToAny, modality: Modality, items: Sequence[_Item], judge: Judge) -> list[Reading]:
    """The readings of media generated from the true captions, in order; each process generates its share."""
    assert model.output_side is not None
    generator = model.output_side.generator(modality)
    rank, world = process_place()
    own = range(rank, len(items), world)
    log.info("measuring the ceiling of %s: %d captions", modality, len(items))
    found: dict[int, Reading] = {}
    steps = range(0, len(own), BATCH_SIZE)
    for start in tqdm(steps, desc=f"ceiling of {modality}", leave=False, disable=rank > 0):
        rows = own[start : start + BATCH_SIZE]
        target = model.output_side.target(modality, [items[row].caption for row in rows])
        seeds = [derive_seed("ceiling", row) % 2**31 for row in rows]
        found |= dict(zip(rows, judge.many(generator.generate(target, seeds)), strict=True))
    merged = {row: reading for part in from_all(found) for row, reading in part.items()}
    return [merged[row] for row in range(len(items))]


def _accuracy(readings: Sequence[Reading], items: Sequence[_Item], attributes: Sequence[str]) -> dict[str, float]:
    """The accuracy of each attribute that the judge reads, over the items that have it."""
    scores: dict[str, list[bool]] = {}
    for reading, item in zip(readings, items, strict=True):
        for name in attributes:
            if (value := item.expected.get(name)) is not None:
                scores.setdefault(name, []).append(reading.get(name) == value)
    return {name: sum(right) / len(right) for name, right in scores.items()}


def _key(model: AnyToAny, modality: Modality, items: Sequence[_Item], readings: Sequence[Reading]) -> str:
    assert model.output_side is not None
    generator = model.output_side.generator(modality)
    # Sampler settings influence the media; not every kind of generator has all of them.
    length = getattr(generator, "num_frames", getattr(generator, "frames", None))  # of a clip, or of a spectrogram
    names = ("num_inference_steps", "guidance_scale", "sampler", "points", "grid")
    settings: list[Any] = [getattr(generator, name, None) for name in names]
    settings.insert(3, length)
    parts = [fingerprint(generator.checkpoint), settings, [item.caption for item in items], list(readings)]
    return sha256(json.dumps(parts).encode()).hexdigest()[:32]


def _read(cache: Path | None) -> dict[str, Any]:
    if cache is None or not shipped_path(cache).is_file():
        return {}
    try:
        known = json.loads(shipped_path(cache).read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{cache}: found no JSON ({error}); expected measured ceilings. Fix: delete it.") from error
    return known if isinstance(known, dict) else {}


def _write(cache: Path, known: Mapping[str, Any]) -> None:
    try:
        cache.parent.mkdir(parents=True, exist_ok=True)
        cache.write_text(json.dumps(known, indent=2) + "\n", encoding="utf-8")
    except OSError as error:  # in a read-only installation a long run must not lose its measurement
        log.warning("%s: the ceilings can't be saved (%s): the next run measures them again", cache, error)


def _item(conversation: Conversation, where: str) -> tuple[Modality, _Item]:
    expected = conversation.details.get("expect")
    message = conversation.messages[-1]
    if isinstance(expected, Mapping) and message.role == "assistant" and len(message.content) == 1:
        match message.content[0]:
            case TextItem(text):
                return Modality.TEXT, _Item(text, expected, text)
            case MediumItem(modality, media, caption, rate) if media is not None and caption is not None:
                real = media if isinstance(media, Media) else read_media(media, modality, rate=rate)
                return modality, _Item(caption, expected, real)
    raise ValueError(
        f"{where}: found no reference; expected an answer of one text, or of one medium with its file and caption, and "
        "details.expect. Fix: give each item these."
    )
