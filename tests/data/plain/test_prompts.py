"""Plain prompts by composition, the held-out questions, and a user's file."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from isthmus.data.plain import PlainPrompt, built_in_prompts, held_out, plain_questions, read_prompts, states_one


def test_the_built_in_set_is_broad_distinct_and_the_same_each_time() -> None:
    prompts = built_in_prompts(3000)
    texts = [prompt.text for prompt in prompts]
    assert len(set(texts)) == 3000
    assert not [text for text in texts if re.search(r"[{}]|  ", text) or not (text[0].isupper() or text[0].isdigit())]
    kinds = [prompt.kind for prompt in prompts]
    assert len(set(kinds)) >= 10 and max(map(kinds.count, set(kinds))) < 600
    assert [prompt.text for prompt in built_in_prompts(100)] == texts[:100]
    assert [prompt.text for prompt in built_in_prompts(100, seed=1)] != texts[:100]
    with pytest.raises(ValueError, match="found count 1000000; the built-in set has about"):
        built_in_prompts(1_000_000)


def test_no_prompt_is_about_a_held_out_question() -> None:
    questions = plain_questions()
    assert len(questions) >= 100 and len({question.text for question in questions}) == len(questions)
    assert all(held_out(question.text) for question in questions), "its own question has all words of its subject"
    texts = [prompt.text for prompt in built_in_prompts(6000)]
    assert not [text for text in texts if held_out(text)]
    assert not [text for text in texts if re.search(r"\b(France|Egypt|Monday)\b", text)]


def test_the_first_questions_are_of_every_kind() -> None:
    questions = plain_questions()
    assert {question.kind for question in questions[:8]} == {question.kind for question in questions}


def test_a_fact_is_read_in_whole_words() -> None:
    by_text = {question.text: question for question in plain_questions()}
    france, total = by_text["What is the capital of France?"], by_text["What is 20 plus 30?"]
    assert states_one("It's PARIS.", france.answers) and not states_one("A parisian cafe", france.answers)
    assert states_one("20 plus 30 is fifty!", total.answers) and not states_one("That makes 500.", total.answers)
    hours = by_text["How many hours are in a day?"]
    assert states_one("Twenty-four hours.", hours.answers) and not states_one("twenty, or four", hours.answers)
    assert not [question for question in plain_questions() if states_one(question.text, question.answers)]
    waffle = "It is a question of the one that I am to ask, and so on, in the end."
    assert not [question for question in plain_questions() if states_one(waffle, question.answers)]


def test_a_users_file(tmp_path: Path) -> None:
    lines = tmp_path / "mine.txt"
    lines.write_text("\ufeffSay hi.\n\n  Name a cat. \nSay hi.\nIs Paris in France?\n", encoding="utf-8")
    assert [(prompt.text, prompt.kind) for prompt in read_prompts(lines)] == [
        ("Say hi.", "own"),
        ("Name a cat.", "own"),
    ]
    records = tmp_path / "mine.jsonl"
    records.write_text('{"prompt": "Say hi.", "kind": "talk"}\n"Name a cat."\n')
    assert read_prompts(records) == [PlainPrompt("Say hi.", "talk"), PlainPrompt("Name a cat.", "own")]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("none.txt", None, "found no file"),
        ("empty.txt", b"\n\n", "found no prompt to use"),
        ("only.txt", b"What is the capital of France?\n", "found no prompt to use"),
        ("latin.txt", "Größe\n".encode("latin-1"), "isn't UTF-8"),
        ("wrong.jsonl", b'{"text": "hi"}\n', "wrong.jsonl.*1.*found no prompt"),
    ],
)
def test_faulty_files_are_told(name: str, content: bytes | None, message: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_prompts(tmp_path / name)
