"""Reads a request's body within limits of type, size and time."""

from __future__ import annotations

import asyncio

from fastapi import Request

from isthmus.serving.errors import ApiError
from isthmus.serving.limits import ServingLimits

FIRST_SECONDS = 5.0
"""For a body's first bytes. Whoever sends nothing can't keep a place for longer."""
LEAST_RATE = 32 << 10
"""Bytes a second that must come after these, on average."""


async def read_body(request: Request, limits: ServingLimits, kind: str = "application/json") -> bytes:
    """The body, which must be of this kind.

    A browser sends JSON to another site only if that site allows it, which this server doesn't; so pages of others
    can't use a server that runs on their reader's machine.

    Raises:
        ApiError: it isn't said to be of the kind, is too large, or comes too slowly.
    """
    found = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if found != kind:
        found = f"content-type: found '{found[:40]}'; expected {kind}. Fix: set the header."
        raise ApiError(415, found, code="invalid_content_type")
    most = f"expected at most {limits.body} bytes. Fix: send fewer or smaller media."
    declared = request.headers.get("content-length", "0")
    if declared.isdigit() and int(declared) > limits.body:
        raise ApiError(413, f"body: found {declared} bytes; {most}", code="body_too_large")
    body = bytearray()
    begun = asyncio.get_running_loop().time()
    try:
        async with asyncio.timeout(min(FIRST_SECONDS, limits.body_seconds)) as time:
            async for piece in request.stream():
                body += piece
                if len(body) > limits.body:
                    raise ApiError(413, f"body: found more than it may have; {most}", code="body_too_large")
                time.reschedule(begun + min(FIRST_SECONDS + len(body) / LEAST_RATE, limits.body_seconds))
    except TimeoutError:
        found = f"body: it came in less than {LEAST_RATE} bytes a second, or took over {limits.body_seconds:g} s."
        raise ApiError(408, f"{found} Fix: send it faster.", code="timeout") from None
    return bytes(body)
