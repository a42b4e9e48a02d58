"""English contractions written without an apostrophe, as the official VQA script mends them."""

from __future__ import annotations

from collections.abc import Iterator

_ONE = """
ain't aren't can't could've couldn't didn't doesn't don't hadn't hasn't haven't he'd he's how'd how'll how's isn't it'd
it'll ma'am mightn't might've mustn't must've needn't not've o'clock oughtn't shan't should've shouldn't somebody'll
somebody's someone'd someone'll someone's something'd something'll that's there'd there're there's they'd they'll
they're they've 'twas wasn't we've weren't what'll what're what's what've when's where'd where's where've who'd who'll
who's who've why'll why're why's won't would've wouldn't y'all you'd you'll you're you've
"""
"""Found where their apostrophe is missing. ``she's`` and the like aren't among them, which would be other words."""

_TWO = """
couldn't've hadn't've he'd've it'd've mightn't've she'd've shouldn't've somebody'd've someone'd've something'd've
there'd've they'd've we'd've who'd've wouldn't've y'all'll y'all'd've you'd've
"""
"""Found where any one of their apostrophes is missing."""


def _missing() -> Iterator[tuple[str, str]]:
    for word in _ONE.split():
        yield word.replace("'", ""), word
    for word in _TWO.split():
        for place, letter in enumerate(word):
            if letter == "'":
                yield word[:place] + word[place + 1 :], word
    yield from (("ow's'at", "'ow's'at"), ("'ows'at", "'ow's'at"), ("'ow'sat", "'ow's'at"))
    yield "somebody'd", "somebodyd"  # the script's own slip, kept: figures would differ from the published ones


CONTRACTIONS = dict(_missing())
