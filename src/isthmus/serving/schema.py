"""The body of ``/v1/chat/completions``, and how all are read. Unknown fields are refused rather than ignored."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from itertools import takewhile
from typing import Any, Literal, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from isthmus.serving.errors import ApiError, invalid

Kind = TypeVar("Kind", bound=BaseModel)


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


class Making(Body):
    """What the routes for one medium read, besides fields of their own."""

    model: str | None = None
    seed: int | None = Field(None, ge=0, lt=2**31)
    user: str | None = None
    safety_identifier: str | None = None
    num_inference_steps: int | None = Field(None, ge=1)
    guidance_scale: float | None = Field(None, ge=0, le=100)

    def chat(self, name: str, content: str | list[dict[str, Any]], modalities: list[str], **more: Any) -> ChatRequest:
        """The same in the words of chat.

        Args:
            name: of the model, if the request has none.
            content: of the user's turn.
            modalities: that the answer must hold.
            more: fields of the chat request; ``system`` are words that precede the turn.
        """
        turns = [Message(role="user", content=content)]
        if system := more.pop("system", None):
            turns.insert(0, Message(role="system", content=system))
        own = {each: getattr(self, each) for each in ("seed", "num_inference_steps", "guidance_scale")}
        return ChatRequest(model=self.model or name, messages=turns, modalities=modalities, **own, **more)


def read_json(body: bytes, kind: type[Kind]) -> Kind:
    """The request in a body of JSON.

    Raises:
        ApiError: it isn't JSON, or a field is wrong; names the field.
    """
    with _wording(kind):
        return kind.model_validate_json(body)


def read_object(value: Mapping[str, Any], kind: type[Kind]) -> Kind:
    """The request in an object of JSON that is read already.

    Raises:
        ApiError: as :func:`read_json`.
    """
    with _wording(kind):
        return kind.model_validate(value)


def read_fields(fields: Mapping[str, str], kind: type[Kind]) -> Kind:
    """The request in a form's fields, whose values are words.

    Raises:
        ApiError: as :func:`read_json`.
    """
    with _wording(kind):
        return kind.model_validate_strings(fields)


@contextmanager
def _wording(kind: type[BaseModel]) -> Iterator[None]:
    """Words the first fault for the client; of a field that may hold several kinds, what was wrong for each."""
    try:
        yield
    except ValidationError as error:
        known = _names(kind)
        faults = error.errors(include_url=False, include_input=False, include_context=False)
        fields = [_field(fault["type"], fault["loc"], known) for fault in faults]
        said = [
            fault["msg"][:1].lower() + fault["msg"][1:]
            for fault, field in zip(faults, fields, strict=True)
            if field == fields[0]
        ]
        raise _worded(kind, faults[0]["type"], fields[0], ", or ".join(dict.fromkeys(said))) from None


def _field(fault: str, loc: tuple[int | str, ...], known: Collection[str]) -> str:
    """Where a fault is: places in lists and names of fields, without pydantic's names of kinds."""
    place = list(takewhile(lambda part: isinstance(part, int) or part in known, loc))
    is_unknown = fault == "extra_forbidden" and len(place) == len(loc) - 1
    return ".".join(map(str, loc if is_unknown else place))


def _names(kind: object) -> set[str]:
    """Of the fields of a body and of all within it."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return set(kind.model_fields).union(*(_names(field.annotation) for field in kind.model_fields.values()))
    return set().union(*map(_names, get_args(kind)))


def _worded(kind: type[BaseModel], fault: str, field: str, message: str) -> ApiError:
    if fault == "json_invalid":
        return invalid("body: found no valid JSON; expected an object. Fix: send JSON.", code="invalid_json")
    if fault == "extra_forbidden":
        known = "" if "." in field else f"; expected some of {', '.join(kind.model_fields)}"
        found = f"{field}: this server doesn't know the parameter{known}. Fix: leave it out."
        return invalid(found, field, "unsupported_parameter")
    return invalid(f"{field or 'body'}: {message}. Fix: correct it.", field or None)
