"""Plain prompts: a user's file of them, or the built-in set, composed of templates and lists."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.random import Generator as Random

from isthmus.data.conversations.records import JsonRecords
from isthmus.data.plain.questions import held_out
from isthmus.data.sampling.seeds import derive_seed
from isthmus.paths import user_path

TRIES = 40
"""Drawings in a row that give no new prompt, after which a kind of prompts is used up."""
OWN = "own"
"""The kind of a user's prompts."""

_PLACE = re.compile(r"\{([a-z]+)(\d*)\}")


@dataclass(frozen=True)
class PlainPrompt:
    """A request that words alone answer.

    Attributes:
        text: what is asked.
        kind: what kind of request it is, such as ``facts``.
    """

    text: str
    kind: str


def built_in_prompts(count: int, seed: int = 0) -> list[PlainPrompt]:
    """Distinct prompts of the built-in set, its kinds in turn; those that a held-out question covers are left out.

    The same count and seed give the same prompts, and a larger count begins with those of a smaller one.

    Raises:
        ValueError: a count below one, or more prompts than can be composed.
    """
    if count < 1:
        raise ValueError(f"prompts: found count {count}; expected at least 1. Fix: raise it.")
    prompts = []
    for prompt in _composed(seed):
        prompts.append(prompt)
        if len(prompts) == count:
            return prompts
    raise ValueError(
        f"prompts: found count {count}; the built-in set has about {len(prompts)}. Fix: ask for fewer, or give a file."
    )


def read_prompts(path: str | Path) -> list[PlainPrompt]:
    """A user's prompts: a text file with one a line, or JSON lines with ``prompt`` (and ``kind``, if any).

    Repeated prompts count once, and those that a held-out question covers are left out.

    Raises:
        ValueError: there is no such file, a line has no prompt, or nothing is left.
    """
    file = user_path(path)
    if not file.is_file():
        raise ValueError(f"{file}: found no file; expected prompts, one a line. Fix: correct the path.")
    read = _of_json(file) if file.suffix in (".json", ".jsonl") else _of_lines(file)
    prompts = list({prompt.text: prompt for prompt in read if not held_out(prompt.text)}.values())
    if not prompts:
        raise ValueError(f"{file}: found no prompt to use; expected one a line, other than the held-out questions.")
    return prompts


def _of_lines(file: Path) -> Iterator[PlainPrompt]:
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{file}: isn't UTF-8 ({error}); expected text. Fix: save it as UTF-8.") from error
    return (PlainPrompt(line.strip(), OWN) for line in lines if line.strip())


def _of_json(file: Path) -> Iterator[PlainPrompt]:
    records = JsonRecords(file)
    for index in range(len(records)):
        raw, where = records.raw(index)
        record = {"prompt": raw} if isinstance(raw, str) else raw
        text = record.get("prompt") if isinstance(record, Mapping) else None
        if not isinstance(text, str) or not text.strip():
            raise ValueError(
                f'{where}: found no prompt; expected a string, or an object with one, as {{"prompt": "..."}}. '
                "Fix: rename the field."
            )
        yield PlainPrompt(text.strip(), str(record.get("kind", OWN)))


@cache
def _built_in() -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load(
        files("isthmus.data.plain").joinpath("prompts.yaml").read_text(encoding="utf-8")
    )
    return content


def _composed(seed: int) -> Iterator[PlainPrompt]:
    """Prompts without end, or until every kind is used up."""
    lists, kinds = _built_in()["lists"], dict(_built_in()["kinds"])
    random = np.random.default_rng(derive_seed("plain prompts", seed))
    seen: set[str] = set()
    while kinds:
        for kind, templates in list(kinds.items()):
            text = _new(templates, lists, seen, random)
            if text is None:
                del kinds[kind]
                continue
            seen.add(text)
            yield PlainPrompt(text, kind)


def _new(templates: Sequence[str], lists: Mapping[str, Sequence[Any]], seen: set[str], random: Random) -> str | None:
    """A prompt that isn't seen yet, or None if the templates seem to give no other."""
    for _ in range(TRIES):
        text = _filled(templates[int(random.integers(len(templates)))], lists, random)
        if text not in seen and not held_out(text):
            return text
    return None


def _filled(template: str, lists: Mapping[str, Sequence[Any]], random: Random) -> str:
    """The template with its places filled; the same place has the same entry, places of one list different ones.

    An entry may have places of its own.
    """
    chosen: dict[str, str] = {}
    text = template
    while places := _PLACE.findall(text):
        for name, number in dict.fromkeys(places):
            taken = {entry for place, entry in chosen.items() if place.rstrip("0123456789") == name}
            entries = [str(entry) for entry in lists[name] if str(entry) not in taken]
            chosen[name + number] = entries[random.integers(len(entries))]
        text = _PLACE.sub(lambda place: chosen[place[1] + place[2]], text)
    return text[0].upper() + text[1:]
