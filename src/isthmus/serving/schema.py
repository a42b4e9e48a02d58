"""The body of ``/v1/chat/completions``: the fields that are read. Unknown ones are refused rather than ignored."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from isthmus.serving.errors import ApiError, invalid


class Body(BaseModel):
    """A part of a body."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Message(BaseModel):
    """A turn. The assistant's may be an earlier answer as it came; its media are in fields of their own."""

    model_config = ConfigDict(extra="allow", strict=True)
    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[dict[str, Any]] | None = None


class StreamOptions(Body):
    """Of streaming."""

    include_usage: bool = False
    include_obfuscation: bool = False


class AudioOptions(Body):
    """Of the answer's audio; the model has one voice, so ``voice`` has no effect."""

    format: Literal["wav"] = "wav"
    voice: str | dict[str, str] | None = None


class ChatRequest(Body):
    """A request. ``num_inference_steps`` and ``guidance_scale`` are ours (``extra_body`` of the client)."""

    model: str
    messages: list[Message] = Field(min_length=1)
    modalities: list[str] | None = None
    audio: AudioOptions | None = None
    max_tokens: int | None = Field(None, ge=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, gt=0, le=1)
    seed: int | None = Field(None, ge=0, lt=2**31)
    n: Literal[1] | None = None
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    user: str | None = None
    num_inference_steps: int | None = Field(None, ge=1)
    guidance_scale: float | None = Field(None, ge=0, le=100)


def read_request(body: bytes) -> ChatRequest:
    """The request in a body.

    Raises:
        ApiError: it isn't JSON, or a field is wrong; names the field.
    """
    try:
        return ChatRequest.model_validate_json(body)
    except ValidationError as error:
        fault = error.errors(include_url=False, include_input=False, include_context=False)[0]
        raise _worded(fault["type"], ".".join(map(str, fault["loc"])), fault["msg"]) from None


def _worded(kind: str, field: str, message: str) -> ApiError:
    if kind == "json_invalid":
        return invalid("body: found no valid JSON; expected an object. Fix: send JSON.", code="invalid_json")
    if kind == "extra_forbidden":
        known = ", ".join(ChatRequest.model_fields)
        found = f"{field}: this server doesn't know the parameter; expected some of {known}. Fix: leave it out."
        return invalid(found, field, "unsupported_parameter")
    return invalid(f"{field or 'body'}: {message[:1].lower()}{message[1:]}. Fix: correct it.", field or None)
