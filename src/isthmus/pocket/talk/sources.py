"""The conversations that a published LLM is tuned on in the talk world: plain English in, words and media out.

They mirror :mod:`isthmus.pocket.tasks`, and differ in how prompts are held out: by their templates. Validation and test
ask in ways that training never does; what they ask for is drawn freely. Media are split by scan, as everywhere.
"""

from __future__ import annotations

from numpy.random import Generator as Random

from isthmus.pocket import tasks
from isthmus.pocket.dialogues import OUTPUTS, Dialogue, Exchange, Shown, draw_pair
from isthmus.pocket.language import draw_shown
from isthmus.pocket.talk.exchanges import later, numbers, questions, turns
from isthmus.pocket.talk.exchanges.asking import ask_back
from isthmus.pocket.talk.exchanges.declining import decline
from isthmus.pocket.talk.exchanges.words_only import in_words
from isthmus.pocket.tasks import SUMS, GivenAndAsked, PocketSource
from isthmus.pocket.wording.things import named, told
from isthmus.pocket.wording.typed import typed
from isthmus.pocket.world import Split
from isthmus.types import Modality


def as_typed(random: Random, dialogue: Dialogue, split: Split) -> Dialogue:
    """The dialogue with the user's turns as someone may type them."""
    return tuple(Exchange(typed(random, exchange.user, split), exchange.assistant) for exchange in dialogue)


def words_about(random: Random, split: Split) -> Dialogue:
    """A dialogue without media: declining, asking back, sums, talk about media and small talk."""
    kind = random.random()
    if kind < 0.35:
        return (decline(random, split),)
    if kind < 0.5:
        return ask_back(random, split)
    if kind < 0.65:
        return (numbers.arithmetic(random, split),)
    return (in_words(random, split),)


class Describe(tasks.Describe):
    """Encoder alignment: a medium and a question -> words. Modalities alternate.

    Arguments are those of :class:`isthmus.pocket.tasks.Describe`.
    """

    name = "talk_describe"

    def dialogue(self, index: int, random: Random) -> Dialogue:
        shown = Shown(self.modalities[index % len(self.modalities)], self.world.concept(random))
        asked = questions.describe if random.random() < 0.6 else questions.ask
        return as_typed(random, (asked(random, shown, self.split),), self.split)


class Captions(tasks.Describe):
    """A medium -> what an answer calls it, and nothing else, for stages that weigh ``spelling``. Modalities alternate.

    Arguments are those of :class:`isthmus.pocket.tasks.Describe`.
    """

    name = "talk_captions"

    def dialogue(self, index: int, random: Random) -> Dialogue:
        modality = self.modalities[index % len(self.modalities)]
        shown = Shown(modality, self.world.concept(random))
        return (Exchange((shown,), (told(shown.known, modality),)),)


class Draw(tasks.Draw):
    """Decoder alignment: a request in words -> a medium after a sentence that says what it shows. Modalities alternate.

    Arguments are those of :class:`isthmus.pocket.tasks.Draw`.
    """

    name = "talk_draw"

    def dialogue(self, index: int, random: Random) -> Dialogue:
        asked = turns.order(random, self.modalities[index % len(self.modalities)], self.split)
        return as_typed(random, (asked,), self.split)


class AnyToAny(GivenAndAsked):
    """Instruction tuning: every input to every output, in turn; some over several turns, some with several media.

    Inputs and outputs are text and all media by default.
    """

    name = "talk_any_to_any"

    def dialogue(self, index: int, random: Random) -> Dialogue:
        place = index % (len(self.inputs) * len(self.outputs))
        asked, output = self.inputs[place % len(self.inputs)], self.outputs[place // len(self.inputs)]
        return as_typed(random, self._drawn(asked, output, random), self.split)

    def _drawn(self, asked: Modality, output: Modality, random: Random) -> Dialogue:
        if asked is Modality.TEXT:
            return words_about(random, self.split) if output is Modality.TEXT else self._from_words(output, random)
        shown = Shown(asked, self.world.concept(random))
        style = random.random()
        first: Exchange
        if output is Modality.TEXT:
            first = (questions.describe if style < 0.6 else questions.ask)(random, shown, self.split)
            last = shown
        else:
            first, last = self._from_medium(shown, output, style, random)
        return self._followed(first, last, random) if random.random() < 0.2 else (first,)

    def _from_words(self, output: Modality, random: Random) -> Dialogue:
        style = random.random()
        if style < 0.16 and len(self.outputs) == len(OUTPUTS):
            concept = turns.drawn(random, Modality.IMAGE)
            words = named(random, concept, Modality.IMAGE, self.split)
            return (turns.two_media(random, concept, words, self.split),)
        if style < 0.28 and len(self.outputs) == len(OUTPUTS):
            return (turns.two_concepts(random, self.split),)
        if style < 0.3:
            return (numbers.counted(random, output, self.split),)
        if style < 0.36:
            return (numbers.sum_made(random, output, self.split),)
        first = turns.order(random, output, self.split)
        (last,) = (part for part in first.assistant if isinstance(part, Shown))
        return self._followed(first, last, random) if style > 0.68 else (first,)

    def _from_medium(self, shown: Shown, output: Modality, style: float, random: Random) -> tuple[Exchange, Shown]:
        if style < 0.2 and output is not Modality.AUDIO and self.world.has_attributes:
            first = turns.changed(random, shown, output, self.split)
        elif style < 0.3 and shown.concept.digit < 9:
            first = turns.successor(random, shown, output, self.split)
        elif style < 0.45 and len(self.outputs) == len(OUTPUTS):
            first = turns.two_media(random, shown.known, "it", self.split, shown)
        else:
            first = turns.converted(random, shown, output, self.split)
        return first, [part for part in first.assistant if isinstance(part, Shown)][-1]

    def _followed(self, first: Exchange, last: Shown, random: Random) -> Dialogue:
        """The first turn, and one or two more about the last medium; only media that are among the outputs are made."""
        dialogue = [first]
        for _ in range(random.integers(1, 3)):
            is_made = any(isinstance(part, Shown) for part in dialogue[-1].assistant)
            exchange, now = later.follow(random, last, is_made, self.split)
            made = {part.modality for part in exchange.assistant if isinstance(part, Shown)}
            if made <= set(self.outputs):
                dialogue.append(exchange)
                last = now
        return tuple(dialogue)


class Arithmetic(GivenAndAsked):
    """Sums across media: two digits, shown or named, -> their sum in words or as a medium."""

    name = "talk_arithmetic"
    asked = SUMS

    def dialogue(self, index: int, random: Random) -> Dialogue:
        output = self.outputs[index % len(self.outputs)]
        first, second = draw_pair(random)
        kinds = [self.inputs[random.integers(len(self.inputs))] for _ in range(2)]
        # Half of the sums are of the kind that is measured: an image and a tone.
        if random.random() < 0.5 and {Modality.IMAGE, Modality.AUDIO} <= set(self.inputs):
            kinds = [Modality.IMAGE, Modality.AUDIO]
        one = draw_shown(random, first, kinds[0], self.world)
        other = draw_shown(random, second, kinds[1], self.world)
        return as_typed(random, (numbers.add(random, one, other, output, self.split),), self.split)


class Chat(PocketSource):
    """Words alone: declining, asking back, small sums, counting, questions that speak of media, small talk.

    Some dialogues go on, to the medium that was meant or to another request.
    """

    name = "talk_chat"

    def dialogue(self, index: int, random: Random) -> Dialogue:
        dialogue = words_about(random, self.split)
        # What was said before must not decide what is given next: words, or at times a medium.
        while random.random() < 0.25:
            output = tasks.MADE[random.integers(len(tasks.MADE))]
            wants_words = random.random() < 0.6
            last = words_about(random, self.split) if wants_words else (turns.order(random, output, self.split),)
            dialogue = (*dialogue, *last)
        return as_typed(random, dialogue[:4], self.split)
