"""Questions about a medium that is shown, and their answers in words."""

from __future__ import annotations

from numpy.random import Generator as Random

from isthmus.pocket.dialogues import Exchange, Part, Shown, askable, attribute, fill, pick
from isthmus.pocket.talk.exchanges.answers import attribute_told, described
from isthmus.pocket.wording.grammar import Choices
from isthmus.pocket.world import COLOURS, MOTIONS, Split
from isthmus.types import Modality

NOUN: dict[Modality, tuple[str, ...]] = {
    Modality.IMAGE: ("picture", "image", "drawing", "photo"),
    Modality.VIDEO: ("video", "clip", "film"),
    Modality.AUDIO: ("sound", "tone", "recording", "audio"),
    Modality.POINTS: ("3D model", "point cloud", "shape", "object"),
}

GENERAL = Choices(
    """what is this? / what is it? / what's this? / what is that? / describe [it|this] / describe [this|the] <noun>
    / describe the <noun> in [words|a sentence|one sentence] / what does [this|the] <noun> show? / [what
    is|what's] in [this|the] <noun>? / tell me what this is / tell me [what is|what's] in the <noun> / tell me
    about this <noun> / can you [describe|tell me about] this <noun>? / what do you make of this? / [please|can
    you] describe what you <perceive> / what do you <perceive>? / what am I [looking at|showing you|giving you]?
    / write [a|one] sentence about [it|this <noun>] / [caption|put a caption to] this / don't draw anything,
    just tell me what this is / what is the <noun> about? [just|only] words, please / in words: what is this?
    / what [have I given|did I give|did I show|have I shown] you? / do you know what [this|it|this <noun>] is? / what
    might this be? / say what [you <perceive>|it is] / what can you tell me about [this|the <noun>]? / have a [look|go]:
    what is it? / let me know what this is / would you say what [this|that] is? / identify [it|this|the <noun>] / can
    you work out what [this|it] is? / guess what I brought you / what did you get? / sum up the <noun> / I don't know
    what this <noun> is, do you? / help me: what is this? / give me your view of the <noun> / this <noun>:
    what is it?""",
    "say what this <noun> is / explain this <noun> to me / what have we here? / give me a description of it",
    """could you tell me what I sent you? / do you recognize this? / any idea what this <noun> is? / summarize the
    <noun> in words / I can't make it out, what is it? / put this <noun> into words""",
)
ASPECTS: dict[str, Choices] = {
    "digit": Choices(
        """[which|what] [digit|number|figure] is [this|it|that]? / what [number|digit] [is|do you see] in
        [this|the] <noun>? / [which|what] [digit|number] does the <noun> show? / tell me the [number|digit] /
        can you read the [number|digit]? / which number from zero to nine is this? / read [it|this|the number]
        for me / can you tell me [which|what] [number|digit] this is? / [which|what] [number|digit] has it got? /
        which [number|digit] do you <perceive>? / [say|type|give me] the [number|digit] in [words|letters]""",
        "name the digit / which numeral is that?",
        """what would you say the number is? / I'd like to know which digit this is / the digit, please? / so which
        number is it?""",
    ),
    "colour": Choices(
        """what [color|colour] is [it|this|that]? / which [color|colour] is [it|this|the number|the digit]? / what
        [color|colour] is the [digit|number|<noun>]? / what is its [color|colour]? / tell me [its|the]
        [color|colour] / what [color|colour] does it have? / can you tell me the [color|colour]? / [name|say]
        the [color|colour]""",
        "in which [color|colour] is this? / what's the [color|colour] here?",
        """what is the [color|colour] of that thing? / which [color|colour] would you call this? / and the
        [color|colour]?""",
    ),
    "motion": Choices(
        """[which way|where] [is it|is this|is the digit|is the number] [going|moving]? / [which|what] direction is
        it [moving|going] in? / in [which|what] direction does [it|the digit|the number] move? / which way does
        [it|this|the number] [move|go]? / how does it move? / does it go left, right, up or down? / tell me
        [where it goes|which way it moves]""",
        "where does the digit go in this clip? / say which way it's moving",
        "where's it headed? / what's the direction of travel? / to which side does it drift?",
    ),
}
MISSING: dict[tuple[Modality, str], str] = {
    (Modality.AUDIO, "colour"): "A tone has no color.",
    (Modality.AUDIO, "motion"): "A tone does not move.",
    (Modality.IMAGE, "motion"): "It does not move: it is a still picture.",
    (Modality.POINTS, "motion"): "It does not move: it is a solid model.",
}
"""Answers to questions about what a medium can't show."""


def question(random: Random, choices: Choices, modality: Modality, split: Split) -> str:
    """A question in words, with the medium named by one of its nouns."""
    perceived = "hear" if modality is Modality.AUDIO else "see"
    words = choices.own(random, split).replace("<noun>", pick(random, NOUN[modality]))
    words = words.replace("<perceive>", perceived)
    return words.replace("looking at", "listening to") if modality is Modality.AUDIO else words


def beside(random: Random, shown: Shown, words: str) -> tuple[Part, ...]:
    """A medium before its question, or, at times, after it."""
    return fill("{} " + words, shown) if random.random() < 0.75 else fill(words + " {}", shown)


def describe(random: Random, shown: Shown, split: Split) -> Exchange:
    """Asks what a medium shows."""
    words = question(random, GENERAL, shown.modality, split)
    return Exchange(beside(random, shown, words), (described(random, shown),))


def ask(random: Random, shown: Shown, split: Split) -> Exchange:
    """Asks for one thing about a medium: mostly one that it shows."""
    if random.random() < 0.06 and shown.modality is not Modality.VIDEO:
        name = "colour" if shown.modality is Modality.AUDIO and random.random() < 0.5 else "motion"
        words = question(random, ASPECTS[name], shown.modality, split)
        return Exchange(beside(random, shown, words), (MISSING[shown.modality, name],))
    names = askable(shown.known)
    name = names[random.integers(len(names))]
    if name != "digit" and random.random() < 0.15:
        return _whether(random, shown, name)
    words = question(random, ASPECTS[name], shown.modality, split)
    return Exchange(beside(random, shown, words), (attribute_told(shown, name),))


def _whether(random: Random, shown: Shown, name: str) -> Exchange:
    """Asks whether it is of some colour, or moves some way."""
    right = attribute(shown.known, name)  # type: ignore[arg-type]  # one of the three
    guess = right if random.random() < 0.5 else pick(random, COLOURS if name == "colour" else tuple(MOTIONS))
    words = f"is it {guess}?" if name == "colour" else f"{pick(random, ('is it moving', 'does it move'))} {guess}?"
    yes = "Yes, it" if guess == right else "No, it"
    return Exchange(beside(random, shown, words), (yes + attribute_told(shown, name).removeprefix("It"),))
