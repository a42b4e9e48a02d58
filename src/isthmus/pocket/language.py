"""The text of the pocket world: the embedded LLM's training text, and the fixed test of its skill.

Its prompts are the requests of :mod:`isthmus.pocket.dialogues` with media replaced by descriptions, and text-only ones:
number facts, comparisons, rewriting, counting. Prompts are split by their text, so that no test prompt is trained on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache

import numpy as np
from numpy.random import Generator as Random

from isthmus.data.sampling.seeds import derive_seed
from isthmus.pocket import dialogues
from isthmus.pocket.dialogues import DONE, OUTPUTS, Attribute, Dialogue, Exchange, Part, Shown, fill, pick
from isthmus.pocket.world import COLOURS, DIGITS, Split, draw_concept
from isthmus.pocket.worlds import DRAWN, World
from isthmus.types import MEDIA, Modality

SKILL_PROMPTS = 600
SOURCES: tuple[Modality, ...] = (Modality.TEXT, *MEDIA)
Kind = Callable[[Random], Dialogue]


def draw_shown(
    random: Random, digit: int | None = None, modality: Modality | None = None, world: World = DRAWN
) -> Shown:
    """A concept in a modality; digit and modality may be given. Text may omit an attribute, media can't."""
    modality = modality or SOURCES[random.integers(len(SOURCES))]
    concept = world.concept(random, 0.25, 0.35) if modality is Modality.TEXT else world.concept(random)
    return Shown(modality, concept if digit is None else replace(concept, digit=digit))


def _mention(random: Random, digit: int) -> Part:
    """A number in a question: its word, or a concept that shows it."""
    return DIGITS[digit] if random.random() < 0.5 else draw_shown(random, digit)


def _answered(template: str, places: Sequence[Part], said: str) -> Dialogue:
    return (Exchange(fill(template, *places), (said,)),)


def _sum(random: Random) -> Dialogue:
    first, second = dialogues.draw_pair(random)
    places = _mention(random, first), _mention(random, second)
    return (dialogues.add(random, *places, first + second, Modality.TEXT),)


def _difference(random: Random) -> Dialogue:
    second, rest = dialogues.draw_pair(random)
    places = _mention(random, second + rest), _mention(random, second)
    return _answered(pick(random, ("what is {} minus {}?", "{} minus {}")), places, DIGITS[rest])


def _successor(random: Random) -> Dialogue:
    digit = int(random.integers(9))
    template = pick(random, ("what comes after {}?", "what is the successor of {}?", "{} what comes next?"))
    return _answered(template, [_mention(random, digit)], DIGITS[digit + 1])


def _predecessor(random: Random) -> Dialogue:
    digit = int(random.integers(1, 10))
    template = pick(random, ("what comes before {}?", "what is the predecessor of {}?", "{} what came just before?"))
    return _answered(template, [_mention(random, digit)], DIGITS[digit - 1])


def _comparison(random: Random) -> Dialogue:
    first, second = (int(digit) for digit in random.permutation(10)[:2])
    word = pick(random, ("larger", "smaller"))
    template = pick(random, (f"which is {word}, {{}} or {{}}?", f"{{}} {{}} which is {word}?"))
    digit = max(first, second) if word == "larger" else min(first, second)
    return _answered(template, [_mention(random, first), _mention(random, second)], DIGITS[digit])


def _rewriting(random: Random) -> Dialogue:
    concept = draw_concept(random)
    colour = pick(random, COLOURS)
    template, said = [
        ("{} say it without the colour", replace(concept, colour=None)),
        ("{} say it without the motion", replace(concept, motion=None)),
        (f"{{}} say it in {colour}", replace(concept, colour=colour)),
    ][random.integers(3)]
    return _answered(template, [Shown(Modality.TEXT, concept)], said.caption(Modality.TEXT))


def _counting(random: Random) -> Dialogue:
    first, last = sorted(int(digit) for digit in random.permutation(10)[:2])
    places = _mention(random, first), _mention(random, last)
    return _answered("count from {} to {}", places, " ".join(DIGITS[first : last + 1]))


def _description(random: Random) -> Dialogue:
    return (dialogues.describe(random, draw_shown(random)),)


def _attribute(name: Attribute) -> Kind:
    return lambda random: (dialogues.ask(random, draw_shown(random), name),)


def _remembered(random: Random) -> Dialogue:
    """A first turn about a concept, and a second one about the same or a new one."""
    source = draw_shown(random, modality=Modality.TEXT)
    if random.random() < 0.3:
        return (*_description(random), dialogues.describe(random, source))
    return (dialogues.describe(random, source), dialogues.follow(random, source, (Modality.TEXT,)))


SKILLS: dict[str, Kind] = {
    "description": _description,
    "digit": _attribute("digit"),
    "colour": _attribute("colour"),
    "motion": _attribute("motion"),
    "sum": _sum,
    "difference": _difference,
    "successor": _successor,
    "predecessor": _predecessor,
    "comparison": _comparison,
    "rewriting": _rewriting,
    "counting": _counting,
    "remembered": _remembered,
}
"""The kinds of prompts in the test of the LLM's skill, all answered by text."""


def _output(random: Random) -> Modality:
    return tuple(DONE)[random.integers(len(DONE))]


def _made(random: Random) -> Dialogue:
    return (dialogues.make(random, draw_shown(random), _output(random)),)


def _ordered(random: Random) -> Dialogue:
    return (order(random, _output(random)),)


def _changed(random: Random) -> Dialogue:
    output = (Modality.IMAGE, Modality.VIDEO)[random.integers(2)]
    return (dialogues.make_changed(random, draw_shown(random), output),)


def _two(random: Random) -> Dialogue:
    return (dialogues.make_two(random, draw_shown(random)),)


def _next(random: Random) -> Dialogue:
    return (dialogues.make_next(random, draw_shown(random, int(random.integers(9))), _output(random)),)


def _sum_made(random: Random) -> Dialogue:
    first, second = dialogues.draw_pair(random)
    return (dialogues.add(random, _mention(random, first), _mention(random, second), first + second, _output(random)),)


def _talked(random: Random) -> Dialogue:
    """Two to four turns, each about the latest concept."""
    turns: list[Exchange] = []
    source: Shown | None = None
    for _ in range(random.integers(2, 5)):
        if source is None or random.random() < 0.3:
            source = draw_shown(random)
            turns.append(dialogues.make(random, source, OUTPUTS[random.integers(len(OUTPUTS))]))
        else:
            turns.append(dialogues.follow(random, source))
    return tuple(turns)


REQUESTS: dict[str, Kind] = {
    "made": _made,
    "ordered": _ordered,
    "changed": _changed,
    "two": _two,
    "next": _next,
    "sum made": _sum_made,
    "talked": _talked,
}
"""Requests for media. The LLM only writes the caption; the tuned model also makes the medium."""

SMALL_TALK = (
    ("hello", "hello"),
    ("hi", "hello"),
    ("thank you", "you are welcome"),
    ("what can you do?", "i can describe, draw, film, play and carve digits"),
    ("who are you?", "a small model of digits"),
)


def small_talk(random: Random) -> Dialogue:
    """A greeting or a question about the model itself."""
    asked, said = SMALL_TALK[random.integers(len(SMALL_TALK))]
    return (Exchange((asked,), (said,)),)


def order(random: Random, output: Modality, digit: int | None = None, world: World = DRAWN) -> Exchange:
    """A request that names the content in its modality's words: "draw a red seven", "play the tone of two"."""
    concept = world.concept(random, drop_colour=0.25, drop_motion=0.25)
    shown = Shown(output, concept if digit is None else replace(concept, digit=digit))
    verb = pick(random, ORDERS[output])
    return Exchange((f"{verb} {shown.caption}",), dialogues.answer(shown.known, output))


ORDERS: dict[Modality, tuple[str, ...]] = {
    Modality.IMAGE: ("draw", "show me an image of", "make an image of"),
    Modality.VIDEO: ("film", "show me a video of", "make a video of"),
    Modality.AUDIO: ("play", "let me hear", "make"),
    Modality.POINTS: ("carve", "show me", "make"),
}


MANNERS = tuple(
    tone.format("{}" + end)
    for tone in ("{}", "please {}", "{} please", "now {}", "{} now", "now {} please")
    for end in ("", ".")
)


def mannered(random: Random, exchange: Exchange) -> Exchange:
    """The same request in one of several phrasings, so that a world of ten captions has enough prompts to split."""
    before, after = pick(random, MANNERS).split("{}")
    user = (before, *exchange.user, after)
    return Exchange(tuple(part for part in user if part), exchange.assistant)


def spoken(parts: Sequence[Part], word: Callable[[Shown], str] = lambda shown: shown.caption) -> str:
    """Parts as text alone, with placeholders described by ``word``."""
    return "".join(part if isinstance(part, str) else word(part) for part in parts)


def said(parts: Sequence[Part]) -> str:
    """The text of an answer, without its media."""
    return " ".join("".join(part if isinstance(part, str) else " " for part in parts).split())


def messages(dialogue: Dialogue, word: Callable[[Shown], str] = lambda shown: shown.caption) -> list[dict[str, str]]:
    """The dialogue as a text chat for a chat template: media are described in words, answers have no media."""
    turns = [(spoken(exchange.user, word), said(exchange.assistant)) for exchange in dialogue]
    return [
        {"role": role, "content": content}
        for turn in turns
        for role, content in zip(("user", "assistant"), turn, strict=True)
    ]


def in_words(dialogue: Dialogue) -> Dialogue:
    """The dialogue with every medium described in words."""
    return tuple(Exchange((spoken(exchange.user),), (said(exchange.assistant),)) for exchange in dialogue)


def loosely(random: Random) -> Callable[[Shown], str]:
    """A noisy way to describe a placeholder: its words shuffled, repeated or without grammar.

    This prepares the LLM for media, which are a few projected positions of arbitrary order and number.
    """

    def word(shown: Shown) -> str:
        style = random.random()
        if style < 0.5:
            return shown.caption
        if style < 0.65:
            return shown.caption + pick(random, (".", ",", ":"))
        known = shown.known
        kind = {Modality.AUDIO: "tone", Modality.POINTS: "solid"}.get(shown.modality)
        words = [word for word in (DIGITS[known.digit], known.colour, known.motion, kind) if word]
        words += [words[random.integers(len(words))] for _ in range(random.integers(3))]
        return " ".join(words[place] for place in random.permutation(len(words)))

    return word


def _split_of(text: str) -> Split:
    bucket = derive_seed("prompt", text) % 16
    return "test" if bucket < 2 else "validation" if bucket == 2 else "train"


def belongs(dialogue: Dialogue, split: Split) -> bool:
    """Whether the prompt, all user turns, belongs to this split. All prefixes of training prompts are training's."""
    texts = [spoken(exchange.user) for exchange in dialogue]
    splits = [_split_of("\n".join(texts[: length + 1])) for length in range(len(texts))]
    return all(own == split for own in splits) if split == "train" else splits[-1] == split


def draw_dialogue(kind: Kind, split: Split, random: Random) -> Dialogue:
    """A dialogue of this kind whose prompt belongs to this split."""
    for _ in range(2000):
        dialogue = kind(random)
        if belongs(dialogue, split):
            return dialogue
    raise AssertionError(f"{kind} has no prompt in {split}")


def draw_skill(split: Split, random: Random) -> Dialogue:
    """A dialogue answered by text: one of the test's kinds or, in training, occasionally small talk.

    :func:`messages` and :func:`in_words` replace its media by words.
    """
    if split == "train" and random.random() < 0.04:
        return small_talk(random)
    return draw_dialogue(tuple(SKILLS.values())[random.integers(len(SKILLS))], split, random)


def draw_corpus(random: Random) -> list[dict[str, str]]:
    """One chat of the LLM's training text, with some noisy descriptions."""
    if random.random() < 0.6:
        dialogue = draw_skill("train", random)
    else:
        dialogue = draw_dialogue(tuple(REQUESTS.values())[random.integers(len(REQUESTS))], "train", random)
    chat = messages(dialogue, loosely(random))
    for message in chat:
        if message["role"] == "user" and random.random() < 0.1:
            message["content"] = pick(random, ("please {}", "{} please", "{}.")).format(message["content"])
    return chat


@cache
def skill_prompts() -> tuple[tuple[str, Dialogue], ...]:
    """The test of the LLM's text-only skill: 600 distinct held-out dialogues, with kinds in turn.

    The last turn is to be answered; earlier ones are given with their answers.
    """
    random = np.random.default_rng(derive_seed("skill"))
    seen: set[str] = set()
    prompts: list[tuple[str, Dialogue]] = []
    while len(prompts) < SKILL_PROMPTS:
        name = tuple(SKILLS)[len(prompts) % len(SKILLS)]
        dialogue = draw_dialogue(SKILLS[name], "test", random)
        text = str(messages(dialogue)[:-1])
        if text not in seen:
            seen.add(text)
            prompts.append((name, dialogue))
    return tuple(prompts)


def text_skill(answers: Sequence[str]) -> float:
    """The share of answers that match exactly, for the first prompts of :func:`skill_prompts`.

    Raises:
        ValueError: there are no answers, or more than prompts.
    """
    if not 0 < len(answers) <= SKILL_PROMPTS:
        raise ValueError(f"answers: found {len(answers)}; expected 1 to {SKILL_PROMPTS}, those to skill_prompts()")
    right = [said(dialogue[-1].assistant) for _, dialogue in skill_prompts()[: len(answers)]]
    return sum(" ".join(answer.split()) == gold for answer, gold in zip(answers, right, strict=True)) / len(right)
