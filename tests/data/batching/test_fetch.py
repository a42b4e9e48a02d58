"""Under ``skip`` no fault of a sample ends a run, wherever it is met; under ``raise`` one error says where it was."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from data.conversations import Numbers, assistant, make_collator, picture, user
from PIL import Image

from isthmus.data.batching.collate import Collator
from isthmus.data.batching.loader import ConversationLoader
from isthmus.data.batching.pairs import Pair, PairCollator
from isthmus.data.batching.prompts import PromptCollator
from isthmus.data.conversations.planning import Planner
from isthmus.data.conversations.schema import Conversation, MediumItem
from isthmus.data.conversations.sources import ConversationSource, JsonLines
from isthmus.data.errors import DataError, Fault
from isthmus.data.lint import Linter
from isthmus.data.sampling.grouping import Grouping
from isthmus.data.sampling.mixture import Mixture
from isthmus.data.sampling.schedule import InOrder
from isthmus.types import Media, Modality

RAISED = [PermissionError, KeyError, RuntimeError, RecursionError, AssertionError, TypeError]


class Faulty(Numbers):
    """Item 2 can't be read."""

    def __init__(self, error: type[BaseException]) -> None:
        super().__init__("a", 5)
        self.error = error

    def __getitem__(self, index: int) -> Conversation:
        if index == 2:
            raise self.error("broken")
        return super().__getitem__(index)

    def where(self, index: int) -> str:
        return f"a.jsonl:{index + 1}"


def loader(source: ConversationSource, collator: Collator, on_error: Any = "skip", workers: int = 0) -> Any:
    schedule = InOrder("test", {"a": len(source)}, len(source))
    return ConversationLoader(schedule, {"a": source}, collator, workers, on_error=on_error)


def indices(made: ConversationLoader) -> list[int]:
    return [details["index"] for batch in made for details in batch.details]


@pytest.mark.parametrize("error", RAISED)
def test_a_source_may_raise_anything(error: type[Exception], collator: Collator) -> None:
    made = loader(Faulty(error), collator)
    assert indices(made) == [0, 1, 3, 3, 4] and made.skipped.total() == 1
    with pytest.raises(DataError, match=rf"a/2 \(a.jsonl:3\): found what raises {error.__name__} ") as caught:
        list(loader(Faulty(error), collator, "raise"))
    assert isinstance(caught.value.__cause__, error)


def test_a_worker_hands_the_fault_over(collator: Collator) -> None:
    made = loader(Faulty(RuntimeError), collator, workers=1)
    assert indices(made) == [0, 1, 3, 3, 4] and made.skipped == {"other": 1}
    with pytest.raises(DataError, match=r"a/2 \(a.jsonl:3\): found what raises RuntimeError \(broken\)"):
        list(loader(Faulty(RuntimeError), collator, "raise", workers=1))


@pytest.mark.parametrize("error", [MemoryError, KeyboardInterrupt])
def test_what_is_no_fault_of_a_sample_ends_the_run(error: type[BaseException], collator: Collator) -> None:
    with pytest.raises(error):
        list(loader(Faulty(error), collator))


@pytest.mark.parametrize("error", RAISED)
@pytest.mark.parametrize("side", ["preprocess", "prepare"])
def test_preprocessing_may_raise_anything(error: type[Exception], side: str, planner: Planner) -> None:
    def refuse(medium: Media) -> dict[str, torch.Tensor]:
        if medium.array.mean() == 2:
            raise error("broken")
        return {"mean": torch.zeros(())}

    collator = make_collator(planner, **{side: {Modality.IMAGE: refuse}}, positions=lambda *_: 1)
    made = loader(Numbers("a", 5), collator)
    assert indices(made) == [0, 1, 3, 3, 4] and made.skipped.total() == 1
    with pytest.raises(DataError, match=rf"a/2: image in memory: found what raises {error.__name__}"):
        list(loader(Numbers("a", 5), collator, "raise"))


class Rows(Numbers):
    """Item i's picture has so many rows, which nothing crops."""

    def __init__(self, *rows: int) -> None:
        super().__init__("a", len(rows))
        self.rows = rows

    def __getitem__(self, index: int) -> Conversation:
        medium = MediumItem(Modality.IMAGE, picture(index, self.rows[index]), "a number")
        asked, told = user("what?", medium), assistant(f"{index}")
        return Pair((asked, told), {"index": index}, assistant("no"))


def pixels(medium: Media) -> dict[str, torch.Tensor]:
    return {"pixels": torch.from_numpy(medium.array), "size": torch.tensor(2)}


@pytest.mark.parametrize("kind", [Collator, PairCollator, PromptCollator])
@pytest.mark.parametrize(("rows", "kept", "bad"), [((3, 2, 2, 2), [1, 1, 2, 3], 0), ((2, 2, 2, 5), [0, 1, 2, 0], 3)])
@pytest.mark.parametrize("parts", [1, 2])
def test_the_odd_sample_alone_is_left_out(
    kind: type[Collator], rows: tuple[int, ...], kept: list[int], bad: int, parts: int, planner: Planner
) -> None:
    collator = make_collator(planner, preprocess={Modality.IMAGE: pixels}, prepare={}, micro_batches=parts)
    collator.__class__ = kind
    made = loader(Rows(*rows), collator)
    (batch,) = made
    sides = 2 if kind is PairCollator else 1  # a part's chosen rows stand before its rejected ones
    found = [details["index"] for part in batch.pieces for details in part.details[: len(part) // sides]]
    assert sorted(found) == sorted(kept) and made.skipped == {"shape": 1}
    with pytest.raises(DataError, match=rf"a/{bad}: inputs of image: found 'pixels' of the shapes") as caught:
        list(loader(Rows(*rows), collator, "raise"))
    assert caught.value.fault is Fault.SHAPE


def test_what_does_not_fit_itself_is_left_out(planner: Planner) -> None:
    class Uneven(Numbers):
        def __getitem__(self, index: int) -> Conversation:
            shown = [MediumItem(Modality.IMAGE, picture(index, 2 + (index == 1 and side)), "x") for side in (0, 1)]
            return Conversation((user("what?", *shown), assistant("x")), {"index": index})

    collator = make_collator(planner, preprocess={Modality.IMAGE: pixels}, prepare={})
    made = loader(Uneven("a", 3), collator)
    assert indices(made) == [0, 2, 2] and made.skipped == {"shape": 1}


def test_a_group_whose_items_are_all_bad_is_replaced_from_its_whole_source(collator: Collator) -> None:
    source = Numbers("a", 6, bad=(1, 4, 5))
    grouping = Grouping("homogeneous", {"a": ["image", "audio", "image", "image", "audio", "image"]})
    schedule = Mixture("stage", {"a": 6}, {"a": 1.0}, 1, steps=6, grouping=grouping)
    made = ConversationLoader(schedule, {"a": source}, collator, 0, on_error="skip")
    found = indices(made)
    assert len(found) == 6 and set(found) == {0, 2, 3}


def test_a_source_of_which_none_fits_ends_the_run(planner: Planner) -> None:
    def nothing(medium: Media) -> dict[str, Any]:
        return {"pixels": None}

    collator = make_collator(planner, preprocess={Modality.IMAGE: nothing}, prepare={}, positions=lambda *_: 1)
    with pytest.raises(DataError, match=r"source 'a': found 3 bad samples in a row .* raises AttributeError"):
        list(loader(Numbers("a", 3), collator))


def looped(path: Path) -> None:
    path.symlink_to(path.name)


BROKEN: dict[str, Callable[[Path], Any]] = {
    "dangling link": lambda path: path.symlink_to("nowhere"),
    "link to itself": looped,
    "folder": lambda path: path.mkdir(),
    "queue": os.mkfifo,
    "nothing in it": lambda path: path.write_bytes(b""),
    "no picture": lambda path: path.write_bytes(os.urandom(64)),
    "cut": lambda path: path.write_bytes(path.with_name("good.png").read_bytes()[:45]),
    "not there": lambda path: None,
}
"""What stands in a picture's place -> what makes it. None of it may be waited for."""


@pytest.fixture
def files(tmp_path: Path) -> JsonLines:
    Image.fromarray(np.arange(48, dtype=np.uint8).reshape(4, 4, 3)).save(tmp_path / "good.png")
    names = ["good.png"]
    for number, make in enumerate(BROKEN.values()):
        make(tmp_path / f"{number}.png")
        names.append(f"{number}.png")
    names += ["x" * 300 + ".png", "bad\ud800.png", "good.png"]
    lines = []
    for index, name in enumerate(names):
        content = [{"type": "text", "text": "what is it?"}, {"type": "image", "image": name}]
        turns = [{"role": "user", "content": content}, {"role": "assistant", "content": f"{index}"}]
        lines.append(json.dumps({"messages": turns, "index": index}))
    lines[1:1] = [
        lines[0].replace("what is it?", "half a \\ud83d"), lines[0].replace('"0"', '"\\udc00"'), lines[0][:50],
        "[" * 100_000, "\x00", "null", lines[0].replace("good.png", "\\u0000"),
    ]  # fmt: skip
    (tmp_path / "set.jsonl").write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    return JsonLines(tmp_path / "set.jsonl")


def test_broken_files_and_lines_are_skipped_and_lint_sees_them(files: JsonLines, planner: Planner) -> None:
    collator = make_collator(planner)
    schedule = Mixture("one", {"a": len(files)}, {"a": 1.0}, len(files), 1)
    made = ConversationLoader(schedule, {"a": files}, collator, on_error="skip")
    assert set(indices(made)) == {0, len(BROKEN) + 3}
    bad = len(files) - 2
    report = Linter().lint(files)
    assert (report.usable, sum(found.count for kind, found in report.findings.items() if "dup" not in kind)) == (2, bad)
    for index in range(1, len(files) - 1):
        one = ConversationLoader(InOrder("x", {"a": 1}, 1), {"a": Single(files, index)}, collator)
        with pytest.raises(DataError) as caught:
            list(one)
        said = str(caught.value)
        assert said.startswith("a/0") and files.where(index) in said, said
        told = [
            text for found in report.findings.values() for text in found.examples if files.where(index) + ":" in text
        ]
        assert told and told[0].removeprefix(files.where(index) + ": ") in said


class Single(Numbers):
    """One item of another source."""

    def __init__(self, source: ConversationSource, index: int) -> None:
        super().__init__("a", 1)
        self.source, self.index = source, index

    def __getitem__(self, index: int) -> Conversation:
        return self.source[self.index]

    def where(self, index: int) -> str:
        return self.source.where(self.index)
