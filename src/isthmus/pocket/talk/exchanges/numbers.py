"""Small sums, differences, neighbours and counting, said in words or asked for in a medium."""

from __future__ import annotations

from numpy.random import Generator as Random

from isthmus.pocket.dialogues import Exchange, Part, Shown, draw_pair, fill, pick, with_articles
from isthmus.pocket.talk.exchanges.answers import given
from isthmus.pocket.talk.exchanges.declining import CAN, VERB
from isthmus.pocket.wording.grammar import Choices, put
from isthmus.pocket.wording.requests import ORDERS, request
from isthmus.pocket.wording.things import number
from isthmus.pocket.world import DIGITS, Concept, Split
from isthmus.types import Modality

TEENS = ("ten", "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen")
NAMES = (*DIGITS, *TEENS)

SUMS = Choices(
    """what is {a} plus {b}? / what's {a} plus {b}? / what is {a} and {b}? / {a} plus {b}? / {a} + {b} / {a}+{b}=?
    / add {a} and {b} / what is the sum of {a} and {b}? / how much is {a} plus {b}? / can you add {a} to {b}? /
    calculate {a} plus {b}""",
    "what do {a} and {b} make? / {a} and {b} together is?",
    """if I add {a} to {b}, what do I get? / I have {a} apples and get {b} more. How many do I have? / work out {a}
    + {b} / sum {a} and {b} for me""",
)
DIFFERENCES = Choices(
    """what is {a} minus {b}? / what's {a} minus {b}? / {a} - {b} / how much is {a} minus {b}? / take {b} from {a}
    / subtract {b} from {a} / {a} take away {b}?""",
    "what is {a} less {b}?",
    "if I take {b} away from {a}, what is left? / I have {a} sweets and eat {b}. How many are left?",
)
COUNTS = Choices(
    """count from {a} to {b} / count [up|] from {a} to {b} / list the [numbers|digits] from {a} to {b} / can you
    count from {a} to {b}? / say the numbers from {a} to {b}""",
    "name all digits from {a} to {b}",
    "which digits lie between {a} and {b}, both included? / start at {a} and count to {b} / write out {a} to {b}",
)
NEIGHBOURS = Choices(
    """what comes [right |]{w} {a}? / which [digit|number] comes {w} {a}? / what is the [number|digit] {w} {a}? /
    [tell|give] me the number {w} {a}""",
    "{w} {a} comes what?",
    "which number do I say {w} {a}? / name the number that stands {w} {a}",
)
UNDRAWN = Choices(
    """don't draw it, just tell me: {} / no picture please: {} / just in words, {} / I don't need a drawing, only the
    answer: {} / without playing anything, {}""",
    "draw nothing, answer me: {}",
    "I need no image, just a number: {} / only tell me, {}",
)
SHOWN_SUMS = Choices(
    """what is {} plus {}? / {} plus {}? / add {} and {} / {} + {} / what is the sum of {} and {}? / how much is {}
    plus {}?""",
    "what do {} and {} make?",
    "{} and {}: add them up / what do I get if I add {} to {}?",
)
SHOWN_FIRST = Choices(
    """{} {} what is their sum? / {} {} add them / {} {} what do they make together? / {} {} how much is that
    together?""",
    "{} {} the sum, please",
    "{} {} sum these up / {} {} what's the total?",
)
LARGER = 0.5
"""The share of sums and differences in words that are of numbers above 20."""
SUM_OF = (
    "the sum of {a} and {b}",
    "{a} plus {b}",
    "the result of {a} plus {b}",
    "what {a} plus {b} makes",
    "{a} + {b}",
)


def _filled(template: str, first: str, second: str) -> str:
    return template.replace("{a}", first).replace("{b}", second)


def _larger(random: Random) -> tuple[int, int]:
    """Two numbers beyond the digits, the larger one first."""
    first = int(random.integers(21, 100))
    return first, int(random.integers(2, first))


def total(random: Random, split: Split) -> Exchange:
    """A sum: of two digits in words, or of larger numbers as LLMs write it, who else would forget how they go."""
    if random.random() < LARGER:
        first, second = _larger(random)
        words = _filled(SUMS.own(random, split), str(first), str(second))
        return Exchange((words,), (f"{first} + {second} = {first + second}.",))
    first, second = (int(digit) for digit in random.integers(10, size=2))
    words = _filled(SUMS.own(random, split), number(random, first), number(random, second))
    return Exchange((words,), (f"That makes {NAMES[first + second]}.",))


def difference(random: Random, split: Split) -> Exchange:
    """A difference, never negative: of digits in words, or of larger numbers as LLMs write it."""
    if random.random() < LARGER:
        first, second = _larger(random)
        words = _filled(DIFFERENCES.own(random, split), str(first), str(second))
        return Exchange((words,), (f"{first} - {second} = {first - second}.",))
    rest, second = draw_pair(random)
    words = _filled(DIFFERENCES.own(random, split), number(random, rest + second), number(random, second))
    return Exchange((words,), (f"That makes {NAMES[rest]}.",))


def counting(random: Random, split: Split) -> Exchange:
    """Counting up or down in words."""
    first, last = (int(digit) for digit in random.permutation(10)[:2])
    step = 1 if last > first else -1
    words = _filled(COUNTS.own(random, split), number(random, first), number(random, last))
    return Exchange(
        (words,), (f"{', '.join(DIGITS[digit] for digit in range(first, last + step, step))}.".capitalize(),)
    )


def neighbour(random: Random, split: Split) -> Exchange:
    """The digit before or after another, in words."""
    digit, step = int(random.integers(1, 9)), (-1, 1)[random.integers(2)]
    words = NEIGHBOURS.own(random, split).replace("{w}", "after" if step > 0 else "before")
    return Exchange((words.replace("{a}", number(random, digit)),), (f"That is {DIGITS[digit + step]}.",))


def arithmetic(random: Random, split: Split) -> Exchange:
    """One of these, at times with a word that nothing is to be drawn."""
    exchange = (total, total, difference, counting, neighbour)[random.integers(5)](random, split)
    if random.random() > 0.1:
        return exchange
    return Exchange((put(UNDRAWN.own(random, split), str(exchange.user[0])),), exchange.assistant)


def sum_made(random: Random, output: Modality, split: Split) -> Exchange:
    """Asks for a medium of a sum that the request gives in words; a sum above nine is declined."""
    first, second = (
        draw_pair(random) if random.random() < 0.85 else (int(random.integers(4, 10)), int(random.integers(6, 10)))
    )
    thing = _filled(pick(random, SUM_OF), number(random, first), number(random, second))
    words = put(request(random, output, split), thing)
    if first + second > 9:
        return Exchange(
            (words,), (f"That makes {NAMES[first + second]}, and I can't {VERB[output]} it. {CAN[output]}",)
        )
    return Exchange((words,), given(random, Concept(first + second), output))


def add(random: Random, first: Shown, second: Shown, output: Modality, split: Split) -> Exchange:
    """The sum of two digits that are shown or named, in words or as a medium; it is at most nine."""
    total = first.concept.digit + second.concept.digit
    assert total < 10, total

    def place(shown: Shown) -> Part:
        return number(random, shown.concept.digit) if shown.modality is Modality.TEXT else shown

    is_first = random.random() < 0.4 and Modality.TEXT not in (first.modality, second.modality)
    if output is Modality.TEXT:
        words = (SHOWN_FIRST if is_first else SHOWN_SUMS).own(random, split)
        return Exchange(fill(words, place(first), place(second)), (f"That makes {DIGITS[total]}.",))
    said = given(random, Concept(total), output)
    if is_first:
        thing = pick(random, ("their sum", "the sum", "the sum of the two", "what they make together"))
        return Exchange(fill("{} {} " + put(request(random, output, split), thing), first, second), said)
    words = _filled(put(request(random, output, split), pick(random, SUM_OF)), "{}", "{}")
    return Exchange(fill(words, place(first), place(second)), said)


def counted(random: Random, output: Modality, split: Split) -> Exchange:
    """Asks to count a few steps in one medium: three drawings at most."""
    first = int(random.integers(8))
    last = first + int(random.integers(1, 3))
    parts: list[Part] = []
    for digit in range(first, last + 1):
        parts += [" "] * bool(parts) + list(given(random, Concept(digit), output))
    words = put(
        ORDERS.own(random, split), f"{VERB[output]} the digits from {number(random, first)} to {number(random, last)}"
    )
    return Exchange((with_articles(words),), tuple(parts))
