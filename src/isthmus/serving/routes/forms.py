"""Bodies with files: ``multipart/form-data``, within the limits of all bodies."""

from __future__ import annotations

import base64
import sys
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from fastapi import Request
from python_multipart.multipart import parse_options_header
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from isthmus.serving.bodies import read_body
from isthmus.serving.errors import ApiError, invalid
from isthmus.serving.guard.origins import is_foreign
from isthmus.serving.limits import ServingLimits
from isthmus.serving.media import ENDINGS, TYPES

KIND = "multipart/form-data"
FIELDS = 64
"""The most fields of a form."""
ALIASES = {".jpeg": ".jpg", ".tif": ".tiff", ".mpga": ".mp3", ".mpeg": ".mp3", ".oga": ".ogg", ".opus": ".ogg"}
"""Endings of files by which clients call formats, too."""


@dataclass(frozen=True)
class Upload:
    """A file of a form.

    Attributes:
        where: its field.
        name: that the client gave; only its ending is read.
        kind: its media type, as the client says.
        data: its bytes.
    """

    where: str
    name: str
    kind: str
    data: bytes = field(repr=False)

    def uri(self) -> str:
        """As a data URI. The name's ending tells its format, or else the media type.

        Raises:
            ApiError: neither is known.
        """
        ending = PurePosixPath(self.name).suffix.lower()
        kind = TYPES.get(ALIASES.get(ending, ending)) or (self.kind if self.kind in ENDINGS else None)
        if kind is None:
            found = f"found a file with the ending '{ending[:20]}' and the type '{self.kind[:40]}'"
            raise invalid(f"{self.where}: {found}; expected one of {', '.join(TYPES)}. Fix: name it so.", self.where)
        return f"data:{kind};base64,{base64.b64encode(self.data).decode('ascii')}"


@dataclass
class Form:
    """What a form holds.

    Attributes:
        fields: by name, without ``[]``, the words.
        files: likewise.
    """

    fields: dict[str, str] = field(default_factory=dict)
    files: dict[str, list[Upload]] = field(default_factory=dict)

    def taken(self, name: str, most: int = 1) -> list[Upload]:
        """The files of a field, which leave the form.

        Raises:
            ApiError: there is none, or more than so many.
        """
        found = self.files.pop(name, [])
        if not 1 <= len(found) <= most:
            expected = "one" if most == 1 else f"1 to {most}"
            raise invalid(f"{name}: found {len(found)} files; expected {expected}. Fix: send them as a form.", name)
        return found

    def close(self) -> None:
        """Refuses files that nobody has taken.

        Raises:
            ApiError: there is one; names its field.
        """
        for name in self.files:
            found = f"{name}: this server doesn't know the file's field. Fix: leave it out."
            raise invalid(found, name, "unsupported_parameter")


class _InMemory(MultiPartParser):
    spool_max_size = sys.maxsize  # the body is in memory already; nothing of it goes to a disk


async def read_form(request: Request, limits: ServingLimits) -> Form:
    """The form in a request's body.

    A browser may send a form to another site unasked; it then says from which one, and is refused.

    Raises:
        ApiError: it isn't a form in UTF-8, comes from a page of another site, or as
            :func:`~isthmus.serving.bodies.read_body`.
    """
    origin = request.headers.get("origin")
    if is_foreign(origin, request.headers.get("host")):
        found = f"origin: found {origin!r:.80}; expected this server's own pages. Fix: send it from a program."
        raise ApiError(403, found, code="invalid_origin")
    charset = parse_options_header(request.headers.get("content-type"))[1].get(b"charset", b"utf-8").lower()
    if charset != b"utf-8":
        found = (
            f"content-type: found the charset '{charset[:20].decode('latin-1')}'; expected utf-8. Fix: leave it out."
        )
        raise ApiError(415, found, code="invalid_content_type")
    body = await read_body(request, limits, KIND)

    async def pieces() -> AsyncGenerator[bytes, None]:
        yield body
        yield b""

    parser = _InMemory(request.headers, pieces(), max_files=limits.parts, max_fields=FIELDS, max_part_size=limits.body)
    try:
        parsed = await parser.parse()
    except (MultiPartException, KeyError, UnicodeDecodeError):
        raise invalid("body: found no readable form; expected its parts. Fix: send it as one.") from None
    form = Form()
    for name, value in parsed.multi_items():
        plain = name.removesuffix("[]")
        if isinstance(value, UploadFile):
            upload = Upload(plain, value.filename or "", (value.content_type or "").lower(), await value.read())
            form.files.setdefault(plain, []).append(upload)
        else:
            form.fields[plain] = value
    return form
