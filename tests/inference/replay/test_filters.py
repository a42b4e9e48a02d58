"""Which answers are kept for replay."""

from __future__ import annotations

import pytest

from isthmus.inference.replay import Rejection, kept_answer


@pytest.mark.parametrize(
    ("answer", "is_cut", "kept"),
    [
        (" Salt dissolves in water. ", False, "Salt dissolves in water."),
        ("12", False, "12"),
        ("Salt dissolves in water. It then spreads until", True, "Salt dissolves in water."),
        ('She said "stop it now, please." Then', True, 'She said "stop it now, please."'),
        ("Try these:\n1. Drink a glass of water.\n2. Sleep for eight hours.\n3.", True,
         "Try these:\n1. Drink a glass of water.\n2. Sleep for eight hours."),
        ("It costs 3.50 in every shop of the town", True, Rejection.CUT),
        ("Yes. It is a very long", True, Rejection.CUT),
        ("  \n", False, Rejection.EMPTY),
        ("...", False, Rejection.EMPTY),
        ("the cat and the cat and the cat and the cat and", False, Rejection.REPETITIVE),
        ("\n".join(["- rice", "- rice", "- rice", "- rice", "- corn"]), False, Rejection.REPETITIVE),
        ("I'm sorry, but I don't know that.", False, Rejection.REFUSAL),
        ("As an AI, I have no taste.", False, Rejection.REFUSAL),
        ("Here is a picture of it.", False, Rejection.MEDIUM),
        ("It looks fine in Videos.", False, Rejection.MEDIUM),
        ("Imagery of the sea moves me.", False, "Imagery of the sea moves me."),
        ("An apology is polite; the aim is clear.", False, "An apology is polite; the aim is clear."),
    ],
)  # fmt: skip
def test_an_answer_is_kept_ended_or_left_out(answer: str, is_cut: bool, kept: str | Rejection) -> None:
    assert kept_answer(answer, is_cut) == kept
