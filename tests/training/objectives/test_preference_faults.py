"""Bad pairs and bad rewards where a user meets them: in ``train.py fit`` over a JSONL file of one's own."""

from __future__ import annotations

import json
import logging
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny_world import tiny_clone

from isthmus import cli
from isthmus.data.sampling.mixture import Mixture

ASKED = [{"role": "user", "content": "draw a seven"}]
PICTURE = {"type": "image", "caption": "a red seven", "image": "seven.png"}
GOOD = [{"type": "text", "text": "drawn"}, PICTURE]

PAIRS: list[Any] = [
    {"messages": ASKED, "chosen": GOOD, "rejected": "no"},
    {"messages": ASKED, "chosen": GOOD, "rejected": GOOD},
    {"messages": ASKED, "chosen": [], "rejected": "no"},
    {"messages": ASKED, "chosen": GOOD, "rejected": " "},
    {"messages": ASKED, "chosen": [PICTURE | {"image": "gone.png"}], "rejected": "no"},
    '{"messages": [{"role": "user", "cont',
    {"messages": ASKED, "chosen": "a seven", "rejected": "a two"},
]
"""Lines of a file, of which the first and the last are sound."""

BAD = {1: "equal pair", 2: "schema", 3: "schema", 4: "path", 5: "schema"}
"""What is wrong with the others, by number from 0."""

REWARDS = """
from isthmus.data.conversations.schema import Conversation
from isthmus.model import Reply


class Told:
    def __init__(self, value: float) -> None:
        self.value = value

    def __call__(self, prompt: Conversation, reply: Reply) -> float:
        return self.value


class Raising:
    def __call__(self, prompt: Conversation, reply: Reply) -> float:
        return prompt.details["digit"]
"""

QUICK = {
    "trainer": {
        "accelerator": "cpu",
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "log_every_n_steps": 1,
        "callbacks": [],
    },
    "data": {"batch_size": 2, "validation": {}, "test": {}},
    "model": {"backbone": {"init_args": {"max_length": 900}}},
}


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tiny experts where the shipped configs look for the embedded ones, a user's pairs, prompts and rewards."""
    folder = tiny_clone(tmp_path_factory.mktemp("clone"))
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(folder / "seven.png")
    lines = [pair if isinstance(pair, str) else json.dumps(pair) for pair in PAIRS]
    (folder / "pairs.jsonl").write_text("\n".join(lines))
    (folder / "prompts.jsonl").write_text("\n".join(json.dumps({"messages": ASKED}) for _ in range(3)))
    (folder / "quick.yaml").write_text(yaml.safe_dump(QUICK))
    (folder / "own_rewards.py").write_text(REWARDS)
    return folder


@pytest.fixture(autouse=True)
def _in_the_clone(clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(clone)
    monkeypatch.syspath_prepend(str(clone))
    monkeypatch.setattr(sys, "argv", ["train.py"])
    monkeypatch.delenv("ISTHMUS_DEBUG", raising=False)


def fit(folder: Path, stage: dict[str, Any], reader: str, file: Path, on_error: str) -> None:
    """``train.py fit`` of one stage over one file of pictures and words, the source ``own``."""
    training = {"stages": {"tuning": {"trains": ["signal_rows", "lora"], **stage}}, "run": ["tuning"]}
    source = {"class_path": f"isthmus.data.{reader}", "init_args": {"path": str(file), "root": "."}}
    config = {"training": training | {"folder": str(folder)}, "data": {"sources": {"own": source}}}
    path = folder / "own.yaml"
    path.write_text(yaml.safe_dump(config))
    files = [part for name in ("examples/images.yaml", "quick.yaml", str(path)) for part in ("-c", name)]
    cli.train(["fit", *files, f"--data.on_error={on_error}"])


def prefer(folder: Path, on_error: str, path: Path = Path("pairs.jsonl")) -> None:
    """One pass over the pairs and a little more, media's content compared too."""
    settings = {"media": 1.0, "media_beta": 5.0}
    objective = {"class_path": "isthmus.training.Preference", "init_args": settings}
    fit(folder, {"objective": objective, "steps": 4}, "preferences.PreferenceLines", path, on_error)


def reward(folder: Path, on_error: str, rewards: dict[str, Any]) -> None:
    """Two steps of a reward of one's own."""
    settings = {"rewards": rewards, "num_generations": 2, "max_new_tokens": 4, "num_inference_steps": 1}
    objective = {"class_path": "isthmus.training.GroupPolicy", "init_args": settings}
    fit(folder, {"objective": objective, "steps": 2}, "sources.JsonLines", Path("prompts.jsonl"), on_error)


def met() -> Counter[str]:
    """The bad lines that a run over the pairs meets: each draws the next line in its place, which may be bad too."""
    schedule, found = Mixture("tuning", {"own": len(PAIRS)}, {"own": 1.0}, 2, 4), Counter[str]()
    for reference in (each for step in range(4) for each in schedule.batch(step)):
        index = reference.index
        while index in BAD:
            found[BAD[index]] += 1
            index = (index + 1) % len(PAIRS)
    return found


def refused(capsys: pytest.CaptureFixture[str]) -> str:
    """What stderr says of a run that was refused, without a traceback."""
    said = capsys.readouterr().err
    assert "Traceback" not in said, said
    (line,) = [line for line in said.splitlines() if line.startswith("error: ")]
    return line


def scalars(folder: Path) -> dict[str, list[float]]:
    """What a run logged."""
    events = EventAccumulator(str(next(folder.rglob("events.out.*")).parent))
    events.Reload()
    return {name: [event.value for event in events.Scalars(name)] for name in events.Tags()["scalars"]}


def test_bad_pairs_are_skipped_counted_and_told_at_the_end(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "isthmus"):
        prefer(tmp_path, "skip")
    assert (tmp_path / "tuning" / "manifest.json").is_file()
    (told,) = [record.getMessage() for record in caplog.records if "bad samples" in record.getMessage()]
    expected = met()
    assert set(expected) == set(BAD.values())
    assert told.startswith(f"tuning, rank 0: skipped {expected.total()} bad samples: ")
    for fault, count in expected.items():
        assert f"{count} {fault} (first: own/" in told
    assert "own/1: pairs.jsonl:2: chosen and rejected: found the same answer twice; expected two that differ" in told
    assert "own/4: pairs.jsonl:5: chosen" in told and "gone.png" in told


def test_a_reward_that_is_no_number_ends_the_run_with_the_prompts_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever becomes of bad data: a reward is the user's program, and its numbers are in the weights once used."""
    with pytest.raises(SystemExit) as exit_info:
        reward(tmp_path, "skip", {"mine": {"class_path": "own_rewards.Told", "init_args": {"value": float("nan")}}})
    assert exit_info.value.code == 2
    said = refused(capsys)
    assert said.startswith("error: rewards.mine: prompt own/"), said
    assert "found nan for the reply" in said and "expected a finite number. Fix: " in said
    assert not (tmp_path / "tuning").exists()


def test_a_reward_that_raises_ends_the_run_with_its_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_info:
        reward(tmp_path, "skip", {"mine": {"class_path": "own_rewards.Raising"}})
    assert exit_info.value.code == 2
    said = refused(capsys)
    assert said.startswith("error: rewards.mine: prompt own/"), said
    assert "it raised KeyError: 'digit'; expected a number. Fix: " in said


def test_groups_of_one_reward_are_counted_and_the_run_goes_on(tmp_path: Path) -> None:
    reward(tmp_path, "raise", {"mine": {"class_path": "own_rewards.Told", "init_args": {"value": 0.1}}})
    logged = scalars(tmp_path)
    assert logged["train/flat_groups"] == [1.0, 1.0]
    assert logged["train/reward"] == pytest.approx([0.1, 0.1])
    assert np.isfinite(logged["train/loss"]).all()
    assert (tmp_path / "tuning" / "manifest.json").is_file()


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (2, "chosen and rejected: found the same answer twice; expected two that differ. Fix: drop the pair."),
        (4, "rejected: found neither text nor media; expected an answer. Fix: fill it, or drop it."),
    ],
)
def test_a_bad_pair_ends_the_run_with_its_file_and_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], line: int, said: str
) -> None:
    own = tmp_path / "own.jsonl"
    own.write_text("\n" * (line - 1) + json.dumps(PAIRS[line - 1]))  # at its line, with nothing beside it
    with pytest.raises(SystemExit) as exit_info:
        prefer(tmp_path, "raise", own)
    assert exit_info.value.code == 2
    found = refused(capsys)
    assert found.startswith(f"error: own/0: {own}:{line}: ") and said in found
