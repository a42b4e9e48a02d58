"""Docstrings of the package as the site shows them: cross-references as links, and one entry for each argument."""

from __future__ import annotations

import re

from public_names import addresses

ROLE = re.compile(r":(?:class|meth|func|data|attr|mod|exc):`(~?)([^`]+)`")
SHARED = re.compile(r"^( +)(\w+(?:, \w+)+):( .*(?:\n\1 +.*)*)", re.MULTILINE)
"""Arguments that share their description: `height, width: in pixels`."""
BLOCK = re.compile(r"::$", re.MULTILINE)

KNOWN = addresses()


def linked(match: re.Match[str]) -> str:
    """A cross-reference: its last name where it begins with a tilde, with a link where the reference has it."""
    short, target = match.groups()
    shown = target.rpartition(".")[2] if short else target
    address = KNOWN.get(target.removeprefix("isthmus.types."))
    return f"[`{shown}`][{address}]" if address else f"`{shown}`"


def shown(text: str) -> str:
    """A docstring in the form that Markdown and the parser of Google's style expect."""
    text = ROLE.sub(linked, text)
    text = SHARED.sub(lambda match: "\n".join(f"{match[1]}{name}:{match[3]}" for name in match[2].split(", ")), text)
    return BLOCK.sub(":", text)
