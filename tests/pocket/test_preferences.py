"""The pocket world's pairs, and the rewards that its judges give."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from isthmus.data.batching.pairs import check_pair
from isthmus.data.conversations.schema import Conversation, MediumItem, TextItem
from isthmus.model import Reply
from isthmus.pocket.cells import MatrixCells
from isthmus.pocket.preferences import PreferredAnswers, worse_answer
from isthmus.pocket.rewards import JudgesVerdict, OneColour
from isthmus.pocket.world import Concept, draw
from isthmus.types import Modality

JUDGES = Path(__file__).resolve().parents[2] / "checkpoints" / "pocket" / "judges"


def test_pairs_differ_and_are_drawn_alike_each_time() -> None:
    source = PreferredAnswers(size=120)
    kinds = set()
    for index in range(120):
        pair = source[index]
        check_pair(pair, str(index))
        chosen, rejected = pair.messages[-1].content, pair.rejected.content
        media = [[item for item in side if isinstance(item, MediumItem)] for side in (chosen, rejected)]
        kinds.add((len(media[0]) > 0, len(media[1]) > 0))
        for one, other in zip(*media, strict=False):
            assert one.modality is other.modality and one.caption and other.caption
            assert one.media is not None and other.media is not None
        if media[1]:  # words and medium are wrong alike
            words = " ".join(item.text for item in rejected if isinstance(item, TextItem))
            assert all(item.caption in words for item in media[1] if item.caption)
    assert kinds == {(False, False), (True, True), (True, False)}
    again = PreferredAnswers(size=120)[7]
    assert again.messages[-1].content[0] == source[7].messages[-1].content[0]
    with pytest.raises(IndexError):
        source[120]


def test_an_answer_without_a_word_to_change_gets_another() -> None:
    (said,) = worse_answer(("unsaid",), np.random.default_rng(0))
    assert said != "unsaid"


@pytest.mark.skipif(not JUDGES.is_dir(), reason="checkpoints/pocket has no judges: `make pocket` trains them")
def test_judges_reward_what_is_right() -> None:
    verdict, random = JudgesVerdict(JUDGES), np.random.default_rng(0)
    cells = MatrixCells(split="train", per_cell=1, text_skill=0, inputs=["text"], outputs=["text", "image"])
    prompts = {cells[index].details["cell"]: cells[index] for index in range(len(cells))}
    prompt = prompts["text->image"]
    expect = prompt.details["expect"]
    picture = draw(Modality.IMAGE, Concept(expect["digit"], expect.get("colour") or "red"), "train", random)
    tone = draw(Modality.AUDIO, Concept(3), "train", random)
    assert verdict(prompt, Reply(["drawn", picture])) == 1
    assert verdict(prompt, Reply(["drawn", picture, tone])) == 0.5
    assert verdict(prompt, Reply(["no"])) == 0
    told = prompts["text->text"]
    assert verdict(told, Reply([told.details["answer"]])) == 1


@pytest.mark.skipif(not JUDGES.is_dir(), reason="checkpoints/pocket has no judges: `make pocket` trains them")
def test_one_colour_is_rewarded() -> None:
    reward, random = OneColour(JUDGES, "blue"), np.random.default_rng(0)
    blue, red = (draw(Modality.IMAGE, Concept(7, colour), "train", random) for colour in ("blue", "red"))
    prompt = Conversation(())
    assert [reward(prompt, Reply(list(media))) for media in ([blue], [red], [blue, red], [])] == [1, 0, 0.5, 0]
    with pytest.raises(ValueError, match=r"one_colour.colour: found 'pink'"):
        OneColour(JUDGES, "pink")


@pytest.mark.parametrize("task", ["arithmetic", "text"])
def test_sums_and_words_have_pairs_too(task: str) -> None:
    source = PreferredAnswers(size=60, task=task, with_content=False)
    made = Counter(
        item.modality for pair in source for item in pair.messages[-1].content if isinstance(item, MediumItem)
    )
    for index, pair in enumerate(source):
        check_pair(pair, str(index))
    assert set(made) == ({Modality.IMAGE, Modality.AUDIO} if task == "arithmetic" else set())
    text = [item.text for item in source[0].messages[-1].content if isinstance(item, TextItem)]
    assert text and all(text)


def test_pairs_of_an_unknown_task_are_refused() -> None:
    with pytest.raises(ValueError, match=r"preferences.task: found 'sums'; expected any_to_any, arithmetic or text"):
        PreferredAnswers(task="sums")
    with pytest.raises(ValueError, match="inputs or outputs for the task 'text'"):
        PreferredAnswers(task="text", outputs=["image"])
