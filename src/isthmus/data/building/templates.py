"""Templates of built dialogues, read from a file and checked before anything is built."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from string import Formatter
from typing import Any

import yaml

from isthmus.modalities import MEDIA, Modality, known_media
from isthmus.paths import user_path

EARLIER = 2
"""The most turns between a medium and the turn that refers to it."""

ONE = frozenset({"medium", "word", "a_word", "caption"})
GIVEN = frozenset({"given", "given_word", "a_given_word"})
TWO = frozenset(f"{before}{which}{after}" for which in ("first", "second") for before, after in (
    ("", ""), ("", "_word"), ("a_", "_word"), ("", "_caption")
))  # fmt: skip

PLACES: dict[str, dict[str, tuple[frozenset[str], frozenset[str]]]] = {
    "describe": {"ask": (ONE - {"caption"}, frozenset({"medium"})), "say": (ONE - {"medium"}, frozenset({"caption"}))},
    "make": {"ask": (ONE - {"medium"}, frozenset({"caption"})), "say": (ONE, frozenset({"medium"}))},
    "convert": {
        "ask": (GIVEN | {"word", "a_word"}, frozenset({"given"})),
        "say": (ONE | GIVEN - {"given"}, frozenset({"medium"})),
    },
    "compare": {
        "ask": (TWO - {"first_caption", "second_caption"}, frozenset({"first", "second"})),
        "say": (TWO - {"first", "second"}, frozenset({"first_caption", "second_caption"})),
    },
    "make_two": {
        "ask": (TWO - {"first", "second"}, frozenset({"first_caption", "second_caption"})),
        "say": (TWO, frozenset({"first", "second"})),
    },
    "recall": {
        "ask": (frozenset({"ordinal", "word", "a_word"}), frozenset({"ordinal", "word"})),
        "say": (ONE - {"medium"} | {"ordinal"}, frozenset({"caption"})),
    },
    "remake": {
        "ask": (GIVEN - {"given"} | {"ordinal", "word", "a_word"}, frozenset({"ordinal", "given_word"})),
        "say": (ONE | GIVEN - {"given"} | {"ordinal"}, frozenset({"medium"})),
    },
    "clarify": {
        "ask": (frozenset({"word", "a_word"}), frozenset()),
        "say": (frozenset({"word", "a_word"}), frozenset()),
        "then": (ONE - {"medium"}, frozenset({"caption"})),
        "made": (ONE, frozenset({"medium"})),
    },
    "refuse": {
        "ask": (frozenset({"unknown", "a_unknown", "caption"}), frozenset()),
        "say": (frozenset({"unknown", "a_unknown", "caption", "makeable"}), frozenset()),
    },
    "offer": {
        "ask": (frozenset({"word", "a_word", "caption"}), frozenset()),
        "say": (frozenset({"word", "a_word", "caption", "makeable"}), frozenset()),
    },
}
"""Allowed and required placeholders, by kind and turn."""


@dataclass(frozen=True)
class Templates:
    """The texts of dialogues.

    Attributes:
        words: the name of a medium by modality, where it isn't the specification's word.
        ordinals: words for the first, second, ... medium.
        unknown: things that can't be made.
        shares: of each kind.
        turns: templates by kind and turn.
    """

    words: dict[Modality, str]
    ordinals: tuple[str, ...]
    unknown: tuple[str, ...]
    shares: dict[str, float]
    turns: dict[str, dict[str, tuple[str, ...]]]

    def word(self, modality: Modality) -> str:
        """What a medium is called."""
        return self.words.get(modality, modality.spec.word)


def read_templates(path: str | Path | None = None) -> Templates:
    """Reads a file of templates; the package's own if None.

    Raises:
        ValueError: there is no such file, or its content is wrong; the message names the file and the key.
    """
    where = "templates.yaml" if path is None else str(path)
    try:
        if path is None:
            written = files("isthmus.data.building").joinpath("templates.yaml").read_text(encoding="utf-8")
        else:
            written = user_path(path).read_text(encoding="utf-8")
        raw = yaml.safe_load(written)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ValueError(f"{where}: it can't be read ({error}); expected templates in YAML. Fix: correct it.") from None
    _keys(raw, where, ("words", "ordinals", "unknown", "kinds"))
    _keys(raw["words"], f"{where}: words", MEDIA, others=known_media())
    _keys(raw["kinds"], f"{where}: kinds", tuple(PLACES))
    words = {Modality(name): _text(word, f"{where}: words.{name}") for name, word in raw["words"].items()}
    shares, turns = {}, {}
    for kind, content in raw["kinds"].items():
        name = f"{where}: kinds.{kind}"
        _keys(content, name, ("share", *PLACES[kind]))
        shares[kind] = _share(content["share"], f"{name}.share")
        turns[kind] = {turn: _wordings(content[turn], f"{name}.{turn}", *known) for turn, known in PLACES[kind].items()}
    if not any(shares.values()):
        raise ValueError(f"{where}: kinds: found no share above 0; expected at least one. Fix: raise one.")
    ordinals = _list(raw["ordinals"], f"{where}: ordinals")
    if len(ordinals) <= EARLIER:
        raise ValueError(
            f"{where}: ordinals: found {len(ordinals)}; expected at least {EARLIER + 1}, one for each medium that a "
            "dialogue can refer to. Fix: add the next ones."
        )
    _distinct(ordinals, f"{where}: ordinals")
    _distinct(tuple(words.values()), f"{where}: words")
    return Templates(words, ordinals, _list(raw["unknown"], f"{where}: unknown"), shares, turns)


def placeholders(template: str) -> list[str]:
    """The names in braces, in order.

    Raises:
        ValueError: unbalanced braces.
    """
    return [name for _, name, _, _ in Formatter().parse(template) if name is not None]


def _wordings(raw: Any, where: str, known: frozenset[str], needed: frozenset[str]) -> tuple[str, ...]:
    wordings = _list(raw, where)
    for number, wording in enumerate(wordings):
        own = f"{where}[{number}]"
        try:
            found = placeholders(wording)
        except ValueError as error:
            raise ValueError(f"{own}: {error}; expected words in pairs of braces. Fix: close them.") from None
        if unknown := [name for name in found if name not in known]:
            expected = ", ".join(sorted(known))
            raise ValueError(f"{own}: found {{{unknown[0]}}}; expected some of {expected}. Fix: rename it.")
        if missing := sorted(needed - set(found)):
            raise ValueError(f"{own}: found no {{{missing[0]}}}; expected it in every wording. Fix: put it in.")
    return wordings


def _keys(raw: Any, where: str, known: tuple[str, ...], others: tuple[str, ...] = ()) -> None:
    expected = ", ".join(known)
    if not isinstance(raw, Mapping):
        raise ValueError(f"{where}: found {type(raw).__name__}; expected a mapping with {expected}. Fix: write one.")
    if unknown := [key for key in raw if key not in (*known, *others)]:
        raise ValueError(f"{where}: found {unknown[0]!r}; expected {expected}. Fix: rename it, or remove it.")
    if missing := [key for key in known if key not in raw]:
        raise ValueError(f"{where}: found no '{missing[0]}'; expected {expected}. Fix: add it.")


def _list(raw: Any, where: str) -> tuple[str, ...]:
    if not isinstance(raw, list) or not raw:
        found = "an empty list" if raw == [] else type(raw).__name__
        raise ValueError(f"{where}: found {found}; expected a list of at least one text. Fix: write one.")
    return tuple(_text(item, f"{where}[{number}]") for number, item in enumerate(raw))


def _distinct(words: tuple[str, ...], where: str) -> None:
    if twice := [word for place, word in enumerate(words) if word in words[:place]]:
        raise ValueError(
            f"{where}: found {twice[0]!r} twice; expected each once, or it isn't clear which medium is meant. Fix: "
            "rename one."
        )


def _text(raw: Any, where: str) -> str:
    if not isinstance(raw, str) or not raw.strip():
        raise ValueError(f"{where}: found {raw!r}; expected words. Fix: write some, in quotes.")
    return raw


def _share(raw: Any, where: str) -> float:
    if isinstance(raw, bool) or not isinstance(raw, int | float) or not 0 <= raw < float("inf"):
        raise ValueError(f"{where}: found {raw!r}; expected a number of at least 0. Fix: correct it.")
    return float(raw)
