"""Reads a request's body within limits of type, size and time."""

from __future__ import annotations

import asyncio

from fastapi import Request

from isthmus.serving.errors import ApiError
from isthmus.serving.limits import ServingLimits


async def read_body(request: Request, limits: ServingLimits) -> bytes:
    """The body.

    A browser sends JSON to another site only if that site allows it, which this server doesn't; so pages of others
    can't use a server that runs on their reader's machine.

    Raises:
        ApiError: it isn't said to be JSON, is too large, or comes too slowly.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        found = f"content-type: found '{kind[:40]}'; expected application/json. Fix: set the header."
        raise ApiError(415, found, code="invalid_content_type")
    most = f"expected at most {limits.body} bytes. Fix: send fewer or smaller media."
    declared = request.headers.get("content-length", "0")
    if declared.isdigit() and int(declared) > limits.body:
        raise ApiError(413, f"body: found {declared} bytes; {most}", code="body_too_large")
    body = bytearray()
    try:
        async with asyncio.timeout(limits.body_seconds):
            async for piece in request.stream():
                body += piece
                if len(body) > limits.body:
                    raise ApiError(413, f"body: found more than it may have; {most}", code="body_too_large")
    except TimeoutError:
        found = f"body: not all of it came within {limits.body_seconds:g} s. Fix: send it faster."
        raise ApiError(408, found, code="timeout") from None
    return bytes(body)
