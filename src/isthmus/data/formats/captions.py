"""A medium and its caption -> a conversation, one way or the other, its instruction chosen by the record's number."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, get_args

from isthmus.data.errors import fault
from isthmus.data.formats.fields import Item, made
from isthmus.data.sampling.seeds import derive_seed
from isthmus.modalities import Modality

Direction = Literal["describe", "draw", "both"]
"""The medium is given and described; or its caption is given and it is made; or each goes one way by its number."""

DESCRIBE = (
    "Describe the {word}.",
    "What does this {word} {seems}?",
    "Write a caption for the {word}.",
    "Say in a few words what is in the {word}.",
)
DRAW = (
    "Make {a_word}: {{caption}}",
    "Give me {a_word} of this: {{caption}}",
    "I would like {a_word}. {{caption}}",
    "{{caption}} Make that into {a_word}.",
)


def instructions(modality: str, way: Literal["describe", "draw"]) -> tuple[str, ...]:
    """What is asked of a modality's media, each to be made with ``{caption}``, in its specification's words."""
    spec = Modality(modality).spec
    words = {"word": spec.word, "a_word": f"{spec.article} {spec.word}", "seems": spec.seems}
    return tuple(template.format(**words) for template in (DESCRIBE if way == "describe" else DRAW))


class Captions:
    """Writes pairs of a medium and a caption as conversations.

    Args:
        direction: which way.
        describe: instructions instead of :data:`DESCRIBE`.
        draw: instructions instead of :data:`DRAW`, each with ``{caption}``.
        seed: of the choice among them; the same for an index each time.

    Raises:
        ValueError: another direction, an empty list, or an instruction to draw without ``{caption}``.
    """

    def __init__(
        self,
        direction: Direction = "describe",
        describe: Sequence[str] | None = None,
        draw: Sequence[str] | None = None,
        seed: int = 0,
    ) -> None:
        if direction not in get_args(Direction):
            raise ValueError(
                f"direction: found {direction!r}; expected {', '.join(get_args(Direction))}. Fix: choose one."
            )
        for name, chosen in (("describe", describe), ("draw", draw)):
            if chosen is not None and not chosen:
                raise ValueError(f"{name}: found no instruction; expected at least one. Fix: leave {name} out.")
        for instruction in draw or ():
            if "{caption}" not in instruction:
                raise ValueError(
                    f"draw: found {instruction!r}; expected an instruction with {{caption}}. Fix: put it where the "
                    "caption belongs."
                )
        self.direction = direction
        self.own = {"describe": tuple(describe or ()), "draw": tuple(draw or ())}
        self.seed = seed

    def chat(
        self,
        modality: str,
        medium: Any,
        caption: str | Sequence[str],
        index: int,
        where: str,
        answer: str | None = None,
    ) -> dict[str, Any]:
        """The two turns of a pair, and as details what evaluations ask for: ``caption`` and ``modality``.

        Args:
            modality: of the medium.
            medium: its path, its bytes, or itself, decoded.
            caption: what it shows; of several captions the record's number chooses one, and the details hold all.
            index: the record's number, which chooses the instruction.
            where: the record's file and line.
            answer: what a description should say instead of the caption: a label, for one.

        Raises:
            DataError: a caption without words.
        """
        listed = [caption] if isinstance(caption, str) else [one for one in caption if one.strip()]
        said = listed[derive_seed("caption", self.seed, index) % len(listed)].strip() if listed else ""
        if not said:
            raise fault(f"{where}: caption", "found no words", "what the medium shows", "caption it, or take it out")
        way = self.direction
        if way == "both":
            way = "draw" if derive_seed("direction", self.seed, index) % 2 else "describe"
        chosen = self.own[way] or instructions(modality, way)
        instruction = chosen[derive_seed("instruction", self.seed, index) % len(chosen)]
        if way == "draw":
            user: list[Item] = [{"type": "text", "text": instruction.replace("{caption}", said)}]
            assistant: list[Item] = [{**made(modality, said), modality: medium}]
        else:
            user = [{"type": modality, modality: medium}, {"type": "text", "text": instruction}]
            assistant = [{"type": "text", "text": said if answer is None else answer}]
        messages = [{"role": "user", "content": user}, {"role": "assistant", "content": assistant}]
        return {"messages": messages, "caption": caption, "modality": str(modality)}
