"""Converts dialogues of the pocket world to conversations: draws their media and splits their prompts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import takewhile

from numpy.random import Generator as Random

from isthmus.data.conversations.schema import ContentItem, Conversation, MediumItem, Message, TextItem
from isthmus.pocket import dialogues
from isthmus.pocket.dialogues import Dialogue, Exchange, Part, Shown
from isthmus.pocket.language import belongs, draw_shown, order
from isthmus.pocket.world import Split
from isthmus.pocket.worlds import DRAWN, World
from isthmus.types import Modality


def conversation(
    dialogue: Dialogue, split: Split, random: Random, with_content: bool = False, world: World = DRAWN
) -> Conversation:
    """The dialogue with its media drawn from this split: the user's always, the answers' if ``with_content``.

    Attributes that a caption doesn't name are random in the medium.
    """

    def written(parts: Sequence[Part], is_answer: bool) -> tuple[ContentItem, ...]:
        items: list[ContentItem] = []
        for part in parts:
            if isinstance(part, Shown) and part.modality is not Modality.TEXT:
                wanted = with_content or not is_answer
                media = world.draw(part.modality, part.concept, split, random) if wanted else None
                items.append(MediumItem(part.modality, media, part.caption if is_answer else None))
                continue
            text = part.caption if isinstance(part, Shown) else part
            # Adjacent texts are merged into one item.
            if items and isinstance(items[-1], TextItem):
                text = items.pop().text + text  # type: ignore[union-attr]
            items.append(TextItem(text))
        return tuple(items)

    turns: list[Message] = []
    for exchange in dialogue:
        turns.append(Message("user", written(exchange.user, is_answer=False)))
        if exchange.assistant:
            turns.append(Message("assistant", written(exchange.assistant, is_answer=True)))
    return Conversation(tuple(turns))


def text_request(random: Random, output: Modality, digit: int | None = None, world: World = DRAWN) -> Exchange:
    """A request of text alone: "draw a red seven", or "a red seven moving left play it"."""
    if random.random() < 0.6:
        return order(random, output, digit, world)
    return dialogues.make(random, draw_shown(random, digit, Modality.TEXT, world), output)


def held_out(drawn: Callable[[], Dialogue], split: Split) -> Dialogue:
    """Draws again until the prompt belongs to the split, which its text before any medium determines."""

    def is_text(exchange: Exchange) -> bool:
        return all(isinstance(part, str) or part.modality is Modality.TEXT for part in exchange.user)

    for _ in range(2000):
        dialogue = drawn()
        text = tuple(takewhile(is_text, dialogue))
        # A medium also makes the prompt unique to the split, but training must not use text prefixes of other splits.
        if not text or (len(text) < len(dialogue) and split != "train") or belongs(text, split):
            return dialogue
    raise AssertionError(f"no prompt in {split}")


def checked(found: Sequence[str], known: Sequence[Modality], field: str) -> tuple[Modality, ...]:
    """The requested modalities.

    Raises:
        ValueError: there are none, or one isn't supported here.
    """
    unknown = [name for name in found if name not in known]
    if unknown or not found:
        raise ValueError(
            f"{field}: found {unknown[0] if unknown else 'none'}; expected some of {', '.join(known)}. Fix: correct it."
        )
    return tuple(Modality(name) for name in found)
