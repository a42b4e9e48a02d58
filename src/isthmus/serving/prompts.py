"""A chat request -> the prompt of a job: turns in the chat-content convention, and what its answer may be."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from isthmus.backbones.base import Sampling
from isthmus.data.conversations.schema import parse_conversation
from isthmus.data.media.reply_files import Content
from isthmus.inference.pipeline import Pipeline
from isthmus.modalities import is_medium
from isthmus.serving.errors import invalid
from isthmus.serving.guard.patience import Patience
from isthmus.serving.limits import ServingLimits
from isthmus.serving.media import FORMATS
from isthmus.serving.reading import Reader, Upload
from isthmus.serving.schema import ChatRequest, Message
from isthmus.types import Batch, Modality

KEPT = ("name", "refusal", "annotations")
"""Fields of a message that clients send and that say nothing to the model."""


@dataclass
class Prompt:
    """What a job needs of a request.

    Attributes:
        batch: the prompt, on the model's device.
        sampling: of the answer.
        required: media that the answer must hold.
        allowed: media that it may hold; all if None.
    """

    batch: Batch
    sampling: Sampling
    required: list[Modality]
    allowed: list[Modality] | None


def has_media(asked: ChatRequest) -> bool:
    """Whether a request has anything that may be a medium."""
    parts = [part for message in asked.messages if isinstance(message.content, list) for part in message.content]
    more = [value for message in asked.messages for value in (message.model_extra or {}).values()]
    is_text = [isinstance(part, dict) and part.get("type") == "text" for part in parts]
    return not all(is_text) or any(isinstance(value, list | dict) and value for value in more)


class PromptMaker:
    """Makes prompts, in any thread; media are decoded side by side.

    Args:
        pipeline: the model, and its sampling where a request doesn't say.
        limits: caps on requests.
        lock: shared with others of which one at a time makes a prompt, too.
    """

    def __init__(self, pipeline: Pipeline, limits: ServingLimits, lock: threading.Lock | None = None) -> None:
        self.model, self.sampling, self.limits = pipeline.model, pipeline.sampling, limits
        side = self.model.input_side
        media = dict.fromkeys([*self.model.inputs, *self.model.outputs])
        self.reader = Reader(limits, {} if side is None else side.requests(), list(media))
        self._lock = lock or threading.Lock()

    def __call__(
        self, asked: ChatRequest, allowed: Sequence[Modality] | None = None, patience: Patience | None = None
    ) -> Prompt:
        """The prompt of a request.

        Args:
            asked: the request.
            allowed: media that its answer may hold; those that it asks for, or any, if None.
            patience: of the request; if None it begins now.

        Raises:
            ApiError: the request exceeds a limit, or asks for what the model can't do.
            ValueError: a medium can't be read, or the conversation doesn't fit.
        """
        required, permitted = self._media(asked.modalities)
        sampling = self._sampling(asked)
        self._check(asked)
        with self.reader.upload(patience) as upload:
            messages = [self._turn(message, f"messages[{i}]", upload) for i, message in enumerate(asked.messages)]
        conversation = parse_conversation({"messages": messages}, "request", captions_required=False)
        with self._lock:
            batch = self.model.prompts([conversation], sampling, [required])
        return Prompt(batch, sampling, required, permitted if allowed is None else list(allowed))

    def _check(self, asked: ChatRequest) -> None:
        fields = [
            each for message in asked.messages for each in (message.content, *(message.model_extra or {}).values())
        ]
        parts = sum(len(each) for each in fields if isinstance(each, list))
        if parts + len(asked.messages) > self.limits.parts:
            found = f"found {parts} parts in {len(asked.messages)} turns"
            raise invalid(
                f"messages: {found}; expected at most {self.limits.parts} in all. Fix: send fewer.", "messages"
            )
        if (asked.num_inference_steps or 0) > self.limits.inference_steps:
            most = f"expected at most {self.limits.inference_steps}"
            field = "num_inference_steps"
            raise invalid(f"{field}: found {asked.num_inference_steps}; {most}. Fix: lower it.", field)

    def _sampling(self, asked: ChatRequest) -> Sampling:
        tokens = (
            asked.max_completion_tokens or asked.max_tokens or min(self.sampling.max_new_tokens, self.limits.tokens)
        )
        if tokens > self.limits.tokens:
            found = f"max_tokens: found {tokens}; expected at most {self.limits.tokens}. Fix: lower it."
            raise invalid(found, "max_tokens")
        own = self.sampling
        return replace(
            own,
            max_new_tokens=tokens,
            temperature=own.temperature if asked.temperature is None else asked.temperature,
            top_p=own.top_p if asked.top_p is None else asked.top_p,
            seed=own.seed if asked.seed is None else asked.seed,
        )

    def _media(self, names: list[str] | None) -> tuple[list[Modality], list[Modality] | None]:
        """The media that an answer must hold and may hold: those that are named, or what the model likes."""
        if names is None:
            return [], None
        outputs = self.model.outputs
        if unknown := [name for name in names if name != "text" and name not in outputs]:
            known = ", ".join(["text", *outputs])
            raise invalid(
                f"modalities: found '{unknown[0][:40]}'; this model makes {known}. Fix: ask for one of these.",
                "modalities",
            )
        required = [Modality(name) for name in dict.fromkeys(names) if name != "text"]
        return required, required

    def _turn(self, message: Message, where: str, upload: Upload) -> dict[str, Any]:
        role = "system" if message.role == "developer" else message.role
        known = {*KEPT, *(self._fields() if role == "assistant" else ())}
        if unknown := [name for name, value in (message.model_extra or {}).items() if value and name not in known]:
            found = f"{where}.{unknown[0]}: this server doesn't know the field. Fix: leave it out."
            raise invalid(found, f"{where}.{unknown[0]}", "unsupported_parameter")
        content: Content = []
        match message.content:
            case str(text):
                content.append({"type": "text", "text": text})
            case list(parts):
                content += [self._part(part, f"{where}.content[{i}]", upload) for i, part in enumerate(parts)]
            case None if role != "assistant":
                raise invalid(f"{where}.content: found none; expected text or parts. Fix: give it.", f"{where}.content")
        if role == "assistant":
            content = [item for item in content if item.get("text") != ""] + self._made(message, where, upload)
        return {"role": role, "content": content if content or role != "assistant" else ""}

    def _fields(self) -> list[str]:
        """Of an answer's media."""
        return ["audio", *(modality.spec.listed for modality in self.model.outputs)]

    def _made(self, message: Message, where: str, upload: Upload) -> Content:
        """The media of an earlier answer, as a response has them."""
        extra: Mapping[str, Any] = message.model_extra or {}
        content: Content = []
        for modality in self.model.outputs:
            field = f"{where}.{modality.spec.listed}"
            parts = extra.get(modality.spec.listed) or []
            if not isinstance(parts, list):
                raise invalid(f"{field}: expected a list of parts. Fix: send the answer back as it came.", field)
            content += [self._part(part, f"{field}[{i}]", upload) for i, part in enumerate(parts)]
        audio = extra.get("audio")
        if isinstance(audio, dict) and not extra.get("audios"):
            field = f"{where}.audio"
            if not isinstance(audio.get("data"), str):
                raise invalid(
                    f"{field}: found no data; expected it, since this server keeps no answers. Fix: send the answer "
                    "back as it came.",
                    field,
                )
            content.append(self._audio({"data": audio["data"], "format": "wav"}, field, upload))
        return content

    def _part(self, part: Any, where: str, upload: Upload) -> dict[str, Any]:
        kind = part.get("type") if isinstance(part, dict) else None
        if kind == "text" and isinstance(part.get("text"), str):
            return {"type": "text", "text": part["text"]}
        if kind == "input_audio":
            return self._audio(part.get("input_audio"), f"{where}.input_audio", upload)
        name = kind.removesuffix("_url") if isinstance(kind, str) and kind.endswith("_url") else ""
        takes = [*self.model.inputs, *self.model.outputs]
        if not is_medium(name) or name not in takes:
            known = ", ".join(["text", "input_audio", *(f"{medium}_url" for medium in dict.fromkeys(takes))])
            raise invalid(
                f"{where}: found the type {str(kind)[:40]!r}; expected one of {known}. Fix: correct it.", where
            )
        value = part.get(kind)
        url = value.get("url") if isinstance(value, dict) else None
        return {"type": name, name: upload.from_uri(url, Modality(name), f"{where}.{kind}")}

    def _audio(self, value: Any, where: str, upload: Upload) -> dict[str, Any]:
        given = value if isinstance(value, dict) else {}
        data, form = given.get("data"), given.get("format")
        if form not in FORMATS or not isinstance(data, str):
            raise invalid(
                f"{where}: found the format {str(form)[:20]!r}; expected data in base64 and a format of "
                f"{', '.join(FORMATS)}. Fix: give both.",
                where,
            )
        return {"type": "audio", "audio": upload.from_base64(data, f".{form}", Modality.AUDIO, where)}
