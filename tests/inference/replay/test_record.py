"""Answers of the embedded LLM are recorded, batched, and go on where a run broke off."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
import torch

from isthmus.backbones import CausalBackbone
from isthmus.backbones.adapters.lora import LoraSettings
from isthmus.cli import main
from isthmus.data.conversations.sources import JsonLines
from isthmus.data.plain import PlainPrompt
from isthmus.inference.replay import ReplayReport, ReplaySettings, record_replay
from isthmus.inference.replay.answers import AnswersFile

QUESTIONS = ("what is two plus three?", "what comes after six?", "count from two to five", "five minus four")
PROMPTS = [PlainPrompt(f"{manner} {question}", manner) for manner in ("please", "now") for question in QUESTIONS]
SETTINGS = ReplaySettings(max_new_tokens=8, batch_size=3)


@pytest.fixture(scope="module")
def llm(repository: Path) -> CausalBackbone:
    return CausalBackbone(repository / "checkpoints" / "pocket" / "llama")


@pytest.fixture(scope="module")
def whole(llm: CausalBackbone, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ReplayReport]:
    """A run without a break."""
    out = tmp_path_factory.mktemp("whole") / "replay.jsonl"
    return out, record_replay(llm, PROMPTS, out, SETTINGS)


def test_conversations_are_as_training_reads_them(whole: tuple[Path, ReplayReport]) -> None:
    out, report = whole
    source = JsonLines(out)
    assert len(source) == report.kept == sum(report.by_kind.values()) >= 6
    assert report.prompts == report.answered == len(PROMPTS) == report.kept + sum(report.rejected.values())
    first = source[0]
    assert [message.role for message in first.messages] == ["user", "assistant"]
    assert first.messages[0].content[0].text == PROMPTS[0].text  # type: ignore[union-attr]
    assert first.messages[1].content[0].text == "five"  # type: ignore[union-attr]
    assert first.details == {"id": "replay-0", "kind": "please"}
    assert json.loads(out.with_suffix(".report.json").read_text())["kept"] == report.kept
    assert sorted(path.name for path in out.parent.iterdir()) == ["replay.jsonl", "replay.report.json"]


def test_a_broken_off_run_goes_on_to_the_same_answers(
    llm: CausalBackbone, whole: tuple[Path, ReplayReport], tmp_path: Path
) -> None:
    out = tmp_path / "replay.jsonl"

    def broken(starts: Iterable[int]) -> Iterator[int]:
        for number, start in enumerate(starts):
            if number == 2:
                raise KeyboardInterrupt
            yield start

    with pytest.raises(KeyboardInterrupt):
        record_replay(llm, PROMPTS, out, SETTINGS, broken)
    so_far = tmp_path / "replay.jsonl.answers"
    lines = so_far.read_text().splitlines(keepends=True)
    assert not out.exists() and len(lines) == 1 + 6
    # The writer was killed in the middle of a line: that batch is answered again, the one before it isn't.
    so_far.write_text("".join(lines[:-1]) + lines[-1][:5])
    report = record_replay(llm, PROMPTS, out, SETTINGS)
    assert report.answered == len(PROMPTS) - 3
    assert out.read_bytes() == whole[0].read_bytes() and not so_far.exists()


def test_answers_end_at_newlines_alone_and_may_be_cut_amid_a_character(tmp_path: Path) -> None:
    out, answers = tmp_path / "replay.jsonl", [("one\u2028two\u0085", False, 3), ("drei für vier", True, 2)]
    file = AnswersFile(out, {"seed": 1})
    file.begin(0)
    file.append(answers)
    assert list(AnswersFile(out, {"seed": 1}).all()) == answers
    whole = file.path.read_bytes()
    file.path.write_bytes(whole[: whole.index("ü".encode()) + 1])
    begun = AnswersFile(out, {"seed": 1})
    assert list(begun.all()) == answers[:1]
    begun.begin(1)
    assert list(AnswersFile(out, {"seed": 1}).all()) == answers[:1]


def test_answers_of_another_run_are_not_mixed_in(llm: CausalBackbone, tmp_path: Path) -> None:
    out = tmp_path / "replay.jsonl"
    (tmp_path / "replay.jsonl.answers").write_text('{"seed": 7}\n')
    with pytest.raises(ValueError, match=r"replay.jsonl.answers: found answers of a run with other prompts"):
        record_replay(llm, PROMPTS, out, SETTINGS)
    assert (tmp_path / "replay.jsonl.answers").read_text() == '{"seed": 7}\n'


def test_another_template_is_another_run(llm: CausalBackbone, repository: Path, tmp_path: Path) -> None:
    out = tmp_path / "replay.jsonl"

    def broken(starts: Iterable[int]) -> Iterator[int]:
        yield next(iter(starts))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        record_replay(llm, PROMPTS, out, SETTINGS, broken)
    other = CausalBackbone(repository / "checkpoints" / "pocket" / "llama", chat_template="vicuna")
    with pytest.raises(ValueError, match="found answers of a run with other prompts, another LLM or other settings"):
        record_replay(other, PROMPTS, out, SETTINGS)


def test_drawn_words_come_from_the_seed(llm: CausalBackbone, tmp_path: Path) -> None:
    def drawn(name: str, seed: int) -> bytes:
        settings = ReplaySettings(max_new_tokens=8, temperature=3.0, seed=seed, batch_size=4)
        record_replay(llm, PROMPTS, tmp_path / name, settings)
        return (tmp_path / name).read_bytes()

    assert drawn("one.jsonl", 1) == drawn("again.jsonl", 1) != drawn("other.jsonl", 2)


def test_a_tuned_llm_answers_as_before_tuning(
    repository: Path, whole: tuple[Path, ReplayReport], tmp_path: Path
) -> None:
    tuned = CausalBackbone(repository / "checkpoints" / "pocket" / "llama", lora=LoraSettings(r=2, lora_alpha=2))
    tuned.serve(["image"])
    tuned.materialize()
    for parameter in tuned.parts()["lora"]:
        torch.nn.init.normal_(parameter)
    record_replay(tuned, PROMPTS, tmp_path / "replay.jsonl", SETTINGS)
    assert (tmp_path / "replay.jsonl").read_bytes() == whole[0].read_bytes()


def test_the_llm_of_a_trained_folder(bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("hello\nwhat is two plus three?\n")
    options = ["--model", str(bundle), "--prompts", str(prompts), "--max_new_tokens", "4"]
    main(["data", "replay", str(tmp_path / "replay.jsonl"), *options])
    assert "of 2 answers kept" in capsys.readouterr().out
