"""Tools by which agents use the model: one that asks it, and one for each medium that it makes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from mcp import types
from pydantic import Field, WithJsonSchema, create_model

from isthmus.model import Reply
from isthmus.serving.media import media_type
from isthmus.serving.routes.asking import Asking
from isthmus.serving.routes.questions import Question
from isthmus.serving.schema import Body, ChatRequest, Message
from isthmus.types import Media, Modality

HINTS = types.ToolAnnotations(read_only_hint=True, destructive_hint=False, idempotent_hint=True, open_world_hint=False)
"""A call changes nothing but the answer: agents may make it unasked."""
NAMES = {"messages[0].content[0]": "text", "messages[0].content": "text", "messages[0]": "text", "messages": "text"}
"""Of the fields of the chat that is made of a call."""


class Call(Body):
    """Arguments of every tool. Media that the model takes, and models if there are several, are fields of their own."""

    text: str = Field(min_length=1, description="The question, or what to make, in words.")
    seed: int | None = Field(None, ge=0, lt=2**31, description="Another seed gives another answer, the same the same.")
    max_tokens: int | None = Field(None, ge=1, description="The most tokens of the answer.")


@dataclass(frozen=True)
class Tool:
    """What an agent may call.

    Attributes:
        shown: what the agent is told of it.
        kind: of its arguments.
        takes: media that they may hold.
        makes: media that the answer must hold; as ``modalities`` of the arguments says if there are none.
    """

    shown: types.Tool
    kind: type[Call]
    takes: Sequence[Modality]
    makes: Sequence[Modality]

    def question(self, asked: Call, name: str) -> Question:
        """What a call asks.

        Args:
            asked: its arguments.
            name: of the model, if they name none.
        """
        content: list[dict[str, Any]] = [{"type": "text", "text": asked.text}]
        names, given = dict(NAMES), []
        for modality in self.takes:
            field, kind = modality.spec.listed, f"{modality}_url"
            for place, url in enumerate(getattr(asked, field) or []):
                names[f"messages[0].content[{len(content)}].{kind}"] = f"{field}[{place}]"
                content.append({"type": kind, kind: {"url": url}})
                given.append(modality)
        modalities = [str(made) for made in self.makes] or getattr(asked, "modalities", None) or None
        own: dict[str, Any] = {"modalities": modalities, "seed": asked.seed, "max_tokens": asked.max_tokens}
        turns = [Message(role="user", content=content)]
        chat = ChatRequest(model=getattr(asked, "model", None) or name, messages=turns, **own)
        return Question(chat, names, takes=list(dict.fromkeys(given)), makes=self.makes)


def tools_of(asking: Asking) -> dict[str, Tool]:
    """The tools by name, as far as a model of the server takes and makes the media.

    Args:
        asking: knows the models.
    """
    models = [maker.model for maker in asking.models.values()]
    takes = list(dict.fromkeys(modality for model in models for modality in model.inputs))
    makes = list(dict.fromkeys(modality for model in models for modality in model.outputs))
    given, made = ", ".join(["text", *takes]), ", ".join(["text", *makes])
    fields = _fields(asking, takes)
    says = "Media that the answer must hold, and the only ones that it may; the model decides if none are named."
    known = WithJsonSchema({"type": "array", "items": {"type": "string", "enum": ["text", *map(str, makes)]}})
    chosen: dict[str, Any] = {"modalities": (Annotated[list[str], known] | None, Field(None, description=says))}
    ask = create_model("AskCall", __base__=Call, **fields, **chosen)
    make = create_model("MakeCall", __base__=Call, **fields)
    says = f"Asks a multimodal model, which takes {given} and answers in {made}."
    tools = [Tool(_shown("ask", "Ask the model", says, ask), ask, takes, [])]
    for modality in makes:
        title = f"Make {modality.spec.article} {modality.spec.word}"
        says = f"{title} with a multimodal model, which takes {given}."
        tools.append(Tool(_shown(f"make_{modality}", title, says, make), make, takes, [modality]))
    return {tool.shown.name: tool for tool in tools}


def _fields(asking: Asking, takes: Sequence[Modality]) -> dict[str, Any]:
    """Fields of arguments that depend on the models: name -> type and default. Names are checked where they serve."""
    hosts = asking.limits.fetch
    form = "each a data URI (data:TYPE;base64,...)" + (f" or an https address at {', '.join(hosts)}" if hosts else "")
    fields: dict[str, Any] = {}
    for modality in takes:
        says = f"Media that the text refers to, of the kind {modality.spec.word}; {form}."
        fields[modality.spec.listed] = (list[str] | None, Field(None, description=says))
    if len(asking.models) > 1:
        says = f"Which model is asked; {asking.name} if none is named."
        known = WithJsonSchema({"type": "string", "enum": list(asking.models)})
        fields["model"] = (Annotated[str, known] | None, Field(None, description=says))
    return fields


def _shown(name: str, title: str, says: str, kind: type[Call]) -> types.Tool:
    schema = kind.model_json_schema()
    return types.Tool(name=name, title=title, description=says, input_schema=schema, annotations=HINTS)


def blocks(reply: Reply, encode: Callable[[Media], str]) -> list[types.ContentBlock]:
    """A reply in the protocol's words, in its order: films and point clouds, which it doesn't know, as resources.

    Args:
        reply: to say.
        encode: gives a medium's file in base64.
    """
    found: list[types.ContentBlock] = []
    for place, piece in enumerate(reply.content):
        match piece:
            case str():
                if piece:
                    found.append(types.TextContent(text=piece))
            case Media(modality="image"):
                found.append(types.ImageContent(data=encode(piece), mime_type=media_type(piece)))
            case Media(modality="audio"):
                found.append(types.AudioContent(data=encode(piece), mime_type=media_type(piece)))
            case Media():
                name = f"isthmus:{piece.modality}/{place}{piece.modality.spec.file_endings[0]}"
                file = types.BlobResourceContents(uri=name, mime_type=media_type(piece), blob=encode(piece))
                found.append(types.EmbeddedResource(resource=file))
    return found
