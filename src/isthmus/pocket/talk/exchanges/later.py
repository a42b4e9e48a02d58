"""Later turns about the medium that was made or shown last: again, changed, in another medium, or a question."""

from __future__ import annotations

from numpy.random import Generator as Random

from isthmus.pocket.dialogues import Exchange, Shown, askable, pick, with_articles
from isthmus.pocket.talk.exchanges import questions
from isthmus.pocket.talk.exchanges.answers import attribute_told, described, given, given_each
from isthmus.pocket.talk.exchanges.declining import decline
from isthmus.pocket.talk.exchanges.numbers import NAMES
from isthmus.pocket.talk.exchanges.turns import A_NOUN, MADE, order
from isthmus.pocket.talk.exchanges.words_only import in_words
from isthmus.pocket.wording.grammar import Choices, put
from isthmus.pocket.wording.requests import request
from isthmus.pocket.wording.things import WAYS, number
from isthmus.pocket.world import COLOURS, MOTIONS, Concept, Split
from isthmus.types import Modality

AGAIN = Choices(
    """[once more|again|one more time][ please|] / [do|make] that again / that one again / the same again / another
    one like that / repeat that""",
    "encore",
    "I'd like to have that once more / same thing again please / can you repeat it?",
)
LOUDER = Choices(
    """that one again but [louder|quieter|longer|slower|faster] / [louder|quieter|slower|faster|longer] please /
    can you make it [louder|quieter|longer]?""",
    "a bit [louder|quieter]",
    "turn [up|down] the volume a bit: [louder|quieter] please / I could hardly hear it, [louder] please",
)
NOW_COLOUR = Choices(
    """now in {c} / [and|now] [the same|that one] in {c} / make it {c} / in {c} please / [can|could] [you make
    it|I have it in] {c}? / {c} instead / the same but {c} / change the [color|colour] to {c}""",
    "{c} would be better",
    "I prefer it in {c} / how about {c}? / try {c} / recolor it {c} / same one, {c} this time",
)
NOW_MOTION = Choices(
    """now moving {m} / [and|now] the same moving {m} / let it move {m} / make it [go|move] {m} / the same but
    moving {m} / make it move {m}""",
    "it should go {m}",
    "have it drift {m} instead / reverse it, I want it to go {m} / same one going {m} this time",
)
NOW_DIGIT = Choices(
    """now a {n} / now the number {n} / [and|now] the same with a {n} / and a {n}? / the same for {n} / make it a
    {n} / {n} instead / do the same for a {n}""",
    "next, a {n}",
    "let's have a {n} this time / how about a {n}? / swap the number for a {n}",
)
NOW_MEDIUM = Choices(
    """[the same|same one|that one|it] as <a noun>[ please|] / now as <a noun> / and as <a noun>? / [can|could] I
    have that as <a noun>? / and now <a noun> of it""",
    "<a noun> of the same, please",
    "I want <a noun> of that one too / same thing, but <a noun> / what about <a noun> of it?",
)
NOW_NEXT = Choices(
    """[and|now] the next [digit|number] / the next one please / and [the one|what comes] after that? / the
    following [digit|number]""",
    "one higher, please",
    "go one up / continue with the next number / increase it by one",
)
PLUS = Choices(
    """and what is it plus {b}? / what is it plus {b}? / add {b} to it, what do you get? / plus {b}? / and if you
    add {b}?""",
    "what would it be plus {b}?",
    "how much is that number plus {b}? / increase the number by {b}: what is it?",
)


def follow(random: Random, last: Shown, is_made: bool, split: Split) -> tuple[Exchange, Shown]:
    """A later turn about the last medium, and the medium that is the last one then.

    Args:
        random: of all choices.
        last: the medium that is spoken of.
        is_made: whether the last answer made it: "again" would mean something else after an answer in words.
        split: of the wordings.
    """
    known = last.known
    kinds = ["medium", "medium", "question", "question", "new", "aside"]
    if is_made:
        kinds += ["again", "digit", "plus", *(["next"] if known.digit < 9 else [])]
        kinds += ["louder"] if last.modality is Modality.AUDIO else ["colour", "colour"]
        kinds += ["motion", "motion"] if last.modality is Modality.VIDEO else []
    kind = pick(random, tuple(kinds))
    if kind == "question":
        return asked_about(random, last, split), last
    if kind == "aside":
        return (in_words if random.random() < 0.5 else decline)(random, split), last
    if kind == "new":
        exchange = order(random, MADE[random.integers(len(MADE))], split)
        return exchange, next(part for part in exchange.assistant if isinstance(part, Shown))
    if kind == "plus":
        other = int(random.integers(10))
        words = PLUS.own(random, split).replace("{b}", number(random, other))
        return Exchange((words,), (f"That makes {NAMES[known.digit + other]}.",)), last
    if kind == "louder":
        words = LOUDER.own(random, split)
        how = next(word for word in ("louder", "quieter", "longer", "slower", "faster") if word in words)
        sentence, medium = given(random, known, last.modality)
        return Exchange((words,), (f"I can't make it {how}. {sentence}", medium)), last
    new, words, output = known, "", last.modality
    if kind == "again":
        words = AGAIN.own(random, split)
    elif kind == "digit":
        new = Concept(int(random.integers(10)), known.colour, known.motion)
        words = with_articles(NOW_DIGIT.own(random, split).replace("{n}", number(random, new.digit)))
    elif kind == "next":
        new = Concept(known.digit + 1, known.colour, known.motion)
        words = NOW_NEXT.own(random, split)
    elif kind == "colour":
        new = Concept(known.digit, pick(random, COLOURS), known.motion)
        words = NOW_COLOUR.own(random, split).replace("{c}", str(new.colour))
    elif kind == "motion":
        new = Concept(known.digit, known.colour, pick(random, tuple(MOTIONS)))
        words = NOW_MOTION.own(random, split).replace("{m}", pick(random, WAYS[str(new.motion)]))
    else:
        output = MADE[random.integers(len(MADE))]
        if random.random() < 0.5:
            words = NOW_MEDIUM.own(random, split).replace("<a noun>", pick(random, A_NOUN[output]))
        else:
            words = put(request(random, output, split), pick(random, ("it", "it", "that", "the same", "that one")))
    shown = Shown(output, new.restricted(output))
    return Exchange((words,), given_each(random, [shown])), shown


def asked_about(random: Random, last: Shown, split: Split) -> Exchange:
    """A question in words about the last medium."""
    if random.random() < 0.4:
        return Exchange(
            (questions.question(random, questions.GENERAL, last.modality, split),), (described(random, last),)
        )
    names = askable(last.known)
    name = names[random.integers(len(names))]
    return Exchange(
        (questions.question(random, questions.ASPECTS[name], last.modality, split),), (attribute_told(last, name),)
    )
