"""Licences that sets and experts state in the cards beside their files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

CARDS = ("README.md", "dataset_info.json")
"""Where they are stated: in the front matter of a card, or under ``license``."""


def stated_licences(folder: Path) -> list[str]:
    """What the cards of a folder say; nothing where they can't be read, as a licence is no reason to end a run."""
    found: list[Any] = []
    for card in CARDS:
        try:
            told = (folder / card).read_text(encoding="utf-8-sig")
            begun, _, rest = told.partition("---\n")
            plain = json.loads(told) if card.endswith(".json") else yaml.safe_load(rest.partition("\n---")[0])
        except (OSError, ValueError, yaml.YAMLError):
            continue
        if isinstance(plain, Mapping) and (card.endswith(".json") or not begun.strip()):
            licence = plain.get("license")
            found += licence if isinstance(licence, list) else [licence]
    return [licence for licence in found if isinstance(licence, str) and licence]
