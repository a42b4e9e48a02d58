"""Headers by which browsers keep other sites out, for the API and for pages."""

from __future__ import annotations

from collections.abc import Iterable

HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
"""Of every answer, for programs; what answers pages sets its own in place of some."""

RawHeaders = list[tuple[bytes, bytes]]
_RAW: RawHeaders = [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]


def guarded(headers: Iterable[tuple[bytes, bytes]]) -> RawHeaders:
    """An answer's headers, with each of these that it doesn't set itself."""
    own = list(headers)
    given = {name.lower() for name, _ in own}
    return own + [each for each in _RAW if each[0] not in given]
