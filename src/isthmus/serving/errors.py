"""Errors in the form that OpenAI's clients read."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from typing import Any

from isthmus.worded import is_worded

log = logging.getLogger(__name__)

PATH = re.compile(r"(?<![\w.:/])/(?:[^\s/'\"]+/)+[^\s/'\",;:)]*")
"""An absolute path of the server within a sentence."""


class ApiError(Exception):
    """A request that isn't answered.

    Args:
        status: of HTTP.
        message: for the client's user; paths of the server are taken out.
        param: the field of the request that it is about.
        code: a short name of the fault.
        headers: of the response.
    """

    def __init__(
        self,
        status: int,
        message: str,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = PATH.sub("[path]", message)
        self.param = param
        self.code = code
        self.headers = dict(headers or {})

    @property
    def body(self) -> dict[str, Any]:
        """The JSON of the response."""
        kind = {401: "authentication_error", 404: "not_found_error", 429: "rate_limit_error"}.get(self.status)
        kind = kind or ("server_error" if self.status >= 500 else "invalid_request_error")
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}

    def again(self) -> ApiError:
        """The same error without its cause and frames, to keep, or to raise once more."""
        return ApiError(self.status, self.message, self.param, self.code, self.headers)


def invalid(message: str, param: str | None = None, code: str = "invalid_value") -> ApiError:
    """The error of a request that must be changed."""
    return ApiError(400, message, param, code)


def api_error(error: BaseException) -> ApiError:
    """What a client is told of an error. Only what is worded for users is repeated."""
    match error:
        case ApiError():
            return error
        case TimeoutError():
            return ApiError(504, str(error), code="timeout")
        case ValueError() if is_worded(error):
            return invalid(str(error))
        case _:
            return ApiError(500, "The server failed to answer this request; its log says why.", code="internal_error")


def told(error: Exception) -> ApiError:
    """What a stream or a tool says of an error that ends it; one that no client is told of is logged."""
    found = api_error(error)
    if found is not error and found.code == "internal_error":
        log.error("an answer broke off", exc_info=error)
    return found
