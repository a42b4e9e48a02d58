"""Reference answers: real media and their captions, on which judges and the generators' ceilings are measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from isthmus.data.conversations.schema import Conversation, MediumItem, Message, TextItem
from isthmus.pocket.conversations import checked
from isthmus.pocket.dialogues import OUTPUTS
from isthmus.pocket.tasks import PocketSource
from isthmus.pocket.worlds import World
from isthmus.types import Modality


class References(PocketSource):
    """Conversations of one answer each: a medium of the world with its caption, or a caption alone.

    ``details["expect"]`` holds its attributes, which are omitted as often as in requests. Modalities and digits
    alternate.

    Args:
        split: of the scans.
        size: number of answers of all modalities together.
        seed: of all random choices.
        modalities: of the answers; text and all media by default.
        world: the source of media; by default they are drawn.
    """

    name = "references"

    def __init__(
        self,
        split: str = "test",
        size: int = 400,
        seed: int = 0,
        modalities: Sequence[str] = OUTPUTS,
        world: World | None = None,
    ) -> None:
        super().__init__(split, size, seed, world)
        self.modalities = checked(modalities, OUTPUTS, "references.modalities")

    def __getitem__(self, index: int) -> Conversation:
        """The answer, without a request.

        Raises:
            IndexError: outside the source.
        """
        random = self.random(index)
        number, place = divmod(index, len(self.modalities))
        modality = self.modalities[place]
        drawn = self.world.concept(random, 0.25, 0.25)
        said = replace(drawn, digit=number % 10).restricted(modality)
        caption = said.caption(modality)
        item = (
            TextItem(caption)
            if modality is Modality.TEXT
            else MediumItem(modality, self.world.draw(modality, said, self.split, random), caption)
        )
        expect = {"digit": said.digit, "colour": said.colour, "motion": said.motion}
        return Conversation((Message("assistant", (item,)),), {"expect": expect})
