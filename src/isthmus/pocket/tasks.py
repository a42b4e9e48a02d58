"""The conversations of the stages, generated on demand: item i is a function of its source's settings.

Media of the training split show training scans, those of the test split test scans. If the user's turns are text alone,
there are no scans to split by, and prompts are split by their text.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.random import Generator as Random

from isthmus.data.conversations.schema import Conversation
from isthmus.data.conversations.sources import ConversationSource
from isthmus.data.sampling.seeds import derive_seed
from isthmus.pocket import dialogues, plain
from isthmus.pocket.conversations import checked, conversation, held_out, text_request
from isthmus.pocket.deferred_world import DeferredWorld
from isthmus.pocket.dialogues import DONE, OUTPUTS, Dialogue, Exchange, Shown
from isthmus.pocket.language import SOURCES, draw_shown, draw_skill, in_words, mannered
from isthmus.pocket.world import Split
from isthmus.pocket.worlds import DRAWN, World
from isthmus.types import MEDIA, Modality

MADE: tuple[Modality, ...] = tuple(DONE)
SUMS: tuple[Modality, ...] = (Modality.TEXT, Modality.IMAGE, Modality.AUDIO)
"""The modalities in which sums are requested."""


class PocketSource(ConversationSource):
    """Conversations about a world of digits, the same for the same settings, in any process and order.

    Args:
        split: ``train``, ``validation`` or ``test``.
        size: number of conversations.
        seed: of all random choices.
        world: the source of media; by default they are drawn.

    Raises:
        ValueError: an unknown split, or a size below one.
    """

    name = "pocket"
    with_content = False

    def __init__(self, split: str = "train", size: int = 10_000, seed: int = 0, world: World | None = None) -> None:
        if split not in ("train", "validation", "test"):
            raise ValueError(f"{self.name}.split: found {split!r}; expected train, validation or test. Fix: rename it.")
        if size < 1:
            raise ValueError(f"{self.name}.size: found {size}; expected at least 1. Fix: raise it.")
        self.split: Split = split  # type: ignore[assignment]  # checked above
        self.size = size
        self.seed = seed
        self.world = world or DRAWN

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> Conversation:
        """The conversation, whose media are drawn on first use.

        Raises:
            IndexError: outside the source.
        """
        random = self.random(index)
        dialogue = self.dialogue(index, random)
        world = self.world if self.world.content is None else DeferredWorld(self.world, random)
        return conversation(dialogue, self.split, random, self.with_content, world)

    def random(self, index: int) -> Random:
        """The random generator of item ``index``.

        Raises:
            IndexError: outside the source.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"{self.name}: no item {index} among {len(self)}")
        return np.random.default_rng(derive_seed(self.name, self.split, self.seed, index))

    def dialogue(self, index: int, random: Random) -> Dialogue:
        """The dialogue of item ``index``, without media."""
        raise NotImplementedError

    def held_out(self, drawn: Callable[[], Dialogue], random: Random) -> Dialogue:
        """A dialogue of the split; see :func:`held_out`."""
        if self.world.has_attributes:
            return held_out(drawn, self.split)

        def varied() -> Dialogue:
            first, *others = drawn()
            return (mannered(random, first), *others)

        return held_out(varied, self.split)


class Describe(PocketSource):
    """Encoder alignment: a medium and a question -> text. Modalities alternate.

    Args:
        split: ``train``, ``validation`` or ``test``.
        size: number of conversations.
        seed: of all random choices.
        modalities: of the media; all four by default.
        world: the source of media; by default they are drawn.
    """

    name = "describe"

    def __init__(
        self,
        split: str = "train",
        size: int = 10_000,
        seed: int = 0,
        modalities: Sequence[str] = MEDIA,
        world: World | None = None,
    ) -> None:
        super().__init__(split, size, seed, world)
        self.modalities = checked(modalities, MEDIA, f"{self.name}.modalities")

    def dialogue(self, index: int, random: Random) -> Dialogue:
        source = Shown(self.modalities[index % len(self.modalities)], self.world.concept(random))
        names = dialogues.askable(source.known)
        # Descriptions train all attributes at once; single questions keep the LLM answering questions.
        if random.random() < 0.6:
            return (dialogues.describe(random, source),)
        return (dialogues.ask(random, source, names[random.integers(len(names))]),)


class Draw(PocketSource):
    """Decoder alignment: text -> a medium with its caption in the modality's canonical words. Modalities alternate.

    Args:
        split: ``train``, ``validation`` or ``test``.
        size: number of conversations.
        seed: of all random choices.
        modalities: of the media; all four by default.
        with_content: whether each answer's medium is drawn too, the target of the denoising loss.
        world: the source of media; by default they are drawn.
    """

    name = "draw"

    def __init__(
        self,
        split: str = "train",
        size: int = 10_000,
        seed: int = 0,
        modalities: Sequence[str] = MADE,
        with_content: bool = False,
        world: World | None = None,
    ) -> None:
        super().__init__(split, size, seed, world)
        self.modalities = checked(modalities, MADE, f"{self.name}.modalities")
        self.with_content = with_content

    def dialogue(self, index: int, random: Random) -> Dialogue:
        output = self.modalities[index % len(self.modalities)]
        return self.held_out(lambda: (text_request(random, output, world=self.world),), random)


class GivenAndAsked(PocketSource):
    """An input of one modality, and a request for another.

    Args:
        split: ``train``, ``validation`` or ``test``.
        size: number of conversations.
        seed: of all random choices.
        inputs: modalities of the user's turns; text and all media by default.
        outputs: requested modalities; those of the task, ``asked``, by default.
        with_content: whether each answer's medium is drawn too, the target of the denoising loss.
        world: the source of media; by default they are drawn.
    """

    asked: tuple[Modality, ...] = OUTPUTS

    def __init__(
        self,
        split: str = "train",
        size: int = 10_000,
        seed: int = 0,
        inputs: Sequence[str] = SOURCES,
        outputs: Sequence[str] | None = None,
        with_content: bool = False,
        world: World | None = None,
    ) -> None:
        super().__init__(split, size, seed, world)
        self.inputs = checked(inputs, SOURCES, f"{self.name}.inputs")
        self.outputs = checked(self.asked if outputs is None else outputs, OUTPUTS, f"{self.name}.outputs")
        self.with_content = with_content


class AnyToAny(GivenAndAsked):
    """Instruction tuning: every input to every output, in turn; some over several turns, some with two media at once.

    Both are text and all media by default.
    """

    name = "any_to_any"

    def dialogue(self, index: int, random: Random) -> Dialogue:
        place = index % (len(self.inputs) * len(self.outputs))
        given, output = self.inputs[place % len(self.inputs)], self.outputs[place // len(self.inputs)]
        return self.held_out(lambda: self._drawn(given, output, random), random)

    def _drawn(self, given: Modality, output: Modality, random: Random) -> Dialogue:
        style = random.random()
        source = draw_shown(random, modality=given, world=self.world)
        if style < 0.2:
            return self._talk(source, output, random)
        if output is Modality.TEXT and given is not Modality.TEXT and style < 0.4:
            names = dialogues.askable(source.known)
            return (dialogues.ask(random, source, names[random.integers(len(names))]),)
        if style < 0.3 and output in (Modality.IMAGE, Modality.VIDEO) and self.world.has_attributes:
            return (dialogues.make_changed(random, source, output),)
        if style < 0.35 and output is not Modality.TEXT and len(self.outputs) == len(OUTPUTS):
            return (dialogues.make_two(random, source),)
        if style < 0.4 and output is not Modality.TEXT and source.concept.digit < 9:
            return (dialogues.make_next(random, source, output),)
        if style < 0.6 and given is Modality.TEXT:
            if output in DONE and self.world.has_attributes and random.random() < 0.4:
                return (plain.paraphrased(random, output, self.split),)
            asked = (
                text_request(random, output, world=self.world) if output in DONE else dialogues.describe(random, source)
            )
            return (asked,)
        return (dialogues.make(random, source, output),)

    def _talk(self, source: Shown, output: Modality, random: Random) -> Dialogue:
        """Two or three turns, about one concept or several in turn."""
        turns: list[Exchange] = [dialogues.make(random, source, output)]
        for _ in range(random.integers(1, 3)):
            if random.random() < 0.3:
                given = self.inputs[random.integers(len(self.inputs))]
                source = draw_shown(random, modality=given, world=self.world)
                turns.append(dialogues.make(random, source, self.outputs[random.integers(len(self.outputs))]))
            else:
                turns.append(dialogues.follow(random, source, self.outputs))
        return tuple(turns)


class Arithmetic(GivenAndAsked):
    """Sums across media: two concepts in any modalities -> the sum of their digits, as text or as a medium.

    Summands are text or any medium by default; the sum is requested as text, image and audio, in turn.
    """

    name = "arithmetic"
    asked = SUMS

    def dialogue(self, index: int, random: Random) -> Dialogue:
        output = self.outputs[index % len(self.outputs)]

        def drawn() -> Dialogue:
            first, second = dialogues.draw_pair(random)
            kinds = [self.inputs[random.integers(len(self.inputs))] for _ in range(2)]
            # Half of the sums are of the kind that is measured: an image and a tone.
            if random.random() < 0.5 and {Modality.IMAGE, Modality.AUDIO} <= set(self.inputs):
                kinds = [Modality.IMAGE, Modality.AUDIO]
            one = draw_shown(random, first, kinds[0], self.world)
            other = draw_shown(random, second, kinds[1], self.world)
            return (dialogues.add(random, one, other, first + second, output),)

        return self.held_out(drawn, random)


class TextOnly(PocketSource):
    """The LLM's text-only skills, replayed so that tuning doesn't degrade them. Test prompts are excluded.

    A third of training is what else people type: greetings, and requests that can't be met, all answered in words.
    """

    name = "text"

    def dialogue(self, index: int, random: Random) -> Dialogue:
        if self.split == "train" and random.random() < 1 / 3:
            return (plain.in_words(random, self.split),)
        return in_words(draw_skill(self.split, random))
