"""API keys, of which the server keeps digests only."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Sequence
from pathlib import Path

DIGEST = re.compile(r"sha256:([0-9a-f]{64})", re.IGNORECASE)


class Keys:
    """Keys that may use the API; without any, everyone may.

    Args:
        digests: SHA-256 of each.
    """

    def __init__(self, digests: Sequence[bytes] = ()) -> None:
        self.digests = tuple(digests)

    @classmethod
    def read(cls, path: Path) -> Keys:
        """The keys of a file: one a line, or ``sha256:`` and its digest in hexadecimal.

        A line that begins with ``#`` is a comment.

        Raises:
            ValueError: the file can't be read, holds no key, or a line isn't the digest that it says to be.
        """
        try:
            lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(
                f"api_keys {path}: can't be read ({error}). Fix: give a file with a key a line."
            ) from error
        for number, line in enumerate(lines, 1):
            if line.lower().startswith("sha256:") and not DIGEST.fullmatch(line):
                raise ValueError(
                    f"api_keys {path}: line {number} has no digest behind sha256:; expected 64 hexadecimal digits. "
                    "Fix: correct the line; a comment has a line of its own."
                )
        digests = [
            bytes.fromhex(found[1]) if (found := DIGEST.fullmatch(line)) else hashlib.sha256(line.encode()).digest()
            for line in lines
            if line and not line.startswith("#")
        ]
        if not digests:
            raise ValueError(f"api_keys {path}: found no key; expected one a line. Fix: write one, or leave it out.")
        return cls(digests)

    def admits(self, authorization: str | None) -> bool:
        """Whether a header's key is one of these. It takes equally long whichever it is, and whether or not it is."""
        if not self.digests:
            return True
        scheme, _, key = (authorization or "").partition(" ")
        given = hashlib.sha256(key.strip().encode()).digest()
        found = [hmac.compare_digest(given, digest) for digest in self.digests]
        return any(found) and scheme.lower() == "bearer"

    def client(self, authorization: str | None, address: str) -> str:
        """Who asks: the key of an admitted header, or without keys the address. Others can't be told apart by keys."""
        if not self.digests:
            return address
        return hashlib.sha256((authorization or "").partition(" ")[2].strip().encode()).hexdigest()
