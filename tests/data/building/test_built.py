"""Dialogues over captioned media: valid, what they say of media true, the same for the same seed."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from data.conversations import make_collator, preprocess
from hypothesis import given, settings
from hypothesis import strategies as st

from isthmus.data.building import BuiltDialogues, MediaPool, read_templates
from isthmus.data.building.kinds import WRITERS
from isthmus.data.conversations.planning import Planner
from isthmus.data.conversations.schema import Conversation, MediumItem, TextItem, check_roles
from isthmus.data.conversations.sources import ConversationSource, JsonLines
from isthmus.data.formats import Alpaca
from isthmus.data.formats.manifest import ManifestSource
from isthmus.data.lint import Linter
from isthmus.data.streaming.convert import convert
from isthmus.data.streaming.lines import LinesWriter
from isthmus.types import IGNORED, Modality

WORDS = read_templates().words


def media(conversation: Conversation) -> list[tuple[str, MediumItem]]:
    return [(m.role, item) for m in conversation.messages for item in m.content if isinstance(item, MediumItem)]


def text(conversation: Conversation, turn: int) -> str:
    return " ".join(item.text for item in conversation.messages[turn].content if isinstance(item, TextItem))


def normal(caption: str) -> str:
    return " ".join(caption.lower().split()).rstrip(".")


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**31))
def test_every_dialogue_is_valid(seed: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.getbasetemp() / "shared"
    source = BuiltDialogues({"own": _pictures(folder)}, size=25, seed=seed)
    for index in range(len(source)):
        dialogue = source[index]
        check_roles(dialogue, str(index))
        roles = [message.role for message in dialogue.messages]
        assert roles == ["user", "assistant"] * (len(roles) // 2)
        for role, item in media(dialogue):
            assert item.media is not None
            assert (item.caption is not None) is (role == "assistant")
        for message in dialogue.messages:
            for item in message.content:
                assert not isinstance(item, TextItem) or ("{" not in item.text and item.text.strip())


def _pictures(folder: Path) -> ConversationSource:
    from PIL import Image

    folder.mkdir(exist_ok=True)
    records = []
    for number, name in enumerate(("a cat", "a dog", "a cow")):
        Image.new("RGB", (4, 4), (number, 0, 0)).save(folder / f"{number}.png")
        records.append({"modality": "image", "path": f"{number}.png", "caption": name})
    (folder / "manifest.jsonl").write_text("\n".join(map(json.dumps, records)))
    return ManifestSource(folder / "manifest.jsonl")


def test_what_is_said_of_media_is_true(source: ManifestSource) -> None:
    captions = {str(item.media): item.caption for index in range(7) for item in _made(source, index)}
    built = BuiltDialogues({"own": source}, size=400)
    seen: Counter[str] = Counter()
    for index in range(len(built)):
        dialogue, kind = built[index], built.kind(index)
        seen[kind] += 1
        shown = media(dialogue)
        assert dialogue.details["kind"] == kind
        last = text(dialogue, -1)
        for role, item in shown:
            if role == "assistant" and isinstance(item.media, Path):
                assert item.caption == captions[str(item.media)]
        match kind:
            case "describe":
                ((role, item),) = shown
                assert role == "user" and normal(last) == normal(_caption(source, item))
            case "make" | "clarify":
                ((role, item),) = shown
                assert role == "assistant" and item.caption and item.caption in text(dialogue, -2)
            case "convert":
                (_, one), (role, other) = shown
                assert role == "assistant" and one.modality is not other.modality
                assert normal(_caption(source, one)) == normal(str(other.caption))
            case "compare" | "make_two":
                assert len(shown) == 2 and len(dialogue.messages) == 2
                assert {role for role, _ in shown} == {"user" if kind == "compare" else "assistant"}
            case "recall":
                item = _referred(dialogue, shown)
                assert normal(last) == normal(_caption(source, item))
            case "remake":
                *_, (role, made) = shown
                item = _referred(dialogue, shown[:-1])
                assert role == "assistant" and made.modality is not item.modality
                assert normal(str(made.caption)) == normal(_caption(source, item))
            case "refuse" | "offer":
                assert not shown
    assert set(seen) == set(WRITERS) and min(seen.values()) >= 8


def _made(source: ConversationSource, index: int) -> list[MediumItem]:
    drawn = ManifestSource(source.records.path, direction="draw")  # type: ignore[attr-defined]
    return [item for _, item in media(drawn[index])]


def _caption(source: ConversationSource, item: MediumItem) -> str:
    if item.caption:
        return item.caption
    for index in range(len(source)):
        (own,) = _made(source, index)
        same = own.media == item.media if isinstance(own.media, Path) else _same(own.media, item.media)
        if same:
            return str(own.caption)
    raise AssertionError(item)


def _same(one: Any, other: Any) -> bool:
    return not isinstance(other, Path) and one.source == other.source


def _referred(dialogue: Conversation, shown: list[tuple[str, MediumItem]]) -> MediumItem:
    """The medium that the last question names, found by its words alone."""
    asked = text(dialogue, -2)
    found = []
    for modality, word in WORDS.items():
        own = [item for _, item in shown if item.modality is modality]
        for ordinal, item in zip(read_templates().ordinals, own, strict=False):
            if f"the {ordinal} {word}" in asked:
                found.append(item)
    (item,) = found
    return item


def test_written_dialogues_are_read_again(source: ManifestSource, tmp_path: Path) -> None:
    runs = []
    for number, seed in enumerate((3, 3, 4)):
        built = BuiltDialogues({"own": source}, size=60, seed=seed)
        folder = tmp_path / str(number)
        done = convert({"built": built}, LinesWriter(folder), Linter())["built"]
        assert done.written == 60 and not done.skipped
        again = JsonLines(folder / "conversations.jsonl")
        assert [len(media(again[i])) for i in range(60)] == [len(media(built[i])) for i in range(60)]
        runs.append((folder / "conversations.jsonl").read_bytes())
    assert runs[0] == runs[1] != runs[2]


def test_splits_and_shares_are_kept(manifest: Path) -> None:
    source = ManifestSource(manifest, splits=["train"])
    built = BuiltDialogues({"own": source}, size=120, shares=dict.fromkeys(WRITERS, 0.0) | {"make": 1.0, "offer": 1.0})
    kinds = Counter(built.kind(index) for index in range(120))
    assert set(kinds) == {"make", "offer"} and min(kinds.values()) > 40
    assert not any("bee" in str(item.caption) for index in range(120) for _, item in media(built[index]))


def test_text_alone_is_mixed_in_and_none_twice(source: ManifestSource, tmp_path: Path) -> None:
    rows = [{"instruction": f"say {number}", "input": "", "output": str(number)} for number in range(40)]
    (tmp_path / "alpaca.json").write_text(json.dumps(rows))
    alpaca = Alpaca(tmp_path / "alpaca.json")
    built = BuiltDialogues({"own": source}, size=200, text={"alpaca": alpaca}, text_share=0.15)
    own = [text(built[index], 0) for index in range(200) if built.kind(index) == "text"]
    assert 15 <= len(own) <= 45 and not any(media(built[i]) for i in range(200) if built.kind(i) == "text")
    built = BuiltDialogues({"own": source}, size=160, text={"alpaca": alpaca}, text_share=0.6)
    own = [text(built[index], 0) for index in range(160) if built.kind(index) == "text"]
    assert len(own) > 80 and len(set(own[:40])) == len(set(own[40:80])) == 40


def test_without_partners_there_is_nothing_to_convert(manifest: Path) -> None:
    built = BuiltDialogues({"own": ManifestSource(manifest, modalities=[Modality.IMAGE])}, size=50)
    assert set(built.kinds) == set(WRITERS) - {"convert", "remake"}
    with pytest.raises(ValueError, match=r"built.shares: found .* with 0 captions or concepts of two modalities"):
        BuiltDialogues(
            {"own": ManifestSource(manifest, modalities=[Modality.IMAGE])},
            shares=dict.fromkeys(WRITERS, 0.0) | {"convert": 1.0},
        )


def test_a_field_says_what_stands_for_one_another(manifest: Path) -> None:
    records = [json.loads(line) for line in manifest.read_text().splitlines()]
    for number, record in enumerate(records):
        record |= {"caption": f"{record['modality']} {number}", "label": "Cow" if number in (0, 4) else f"{number}"}
    del records[5]["label"]
    manifest.write_text("\n".join(map(json.dumps, records)))
    source = ManifestSource(manifest)
    assert not MediaPool({"own": source}).shared
    built = BuiltDialogues(
        {"own": source}, size=30, shares=dict.fromkeys(WRITERS, 0.0) | {"convert": 1.0}, concept="label"
    )
    for index in range(len(built)):
        (_, one), (_, other) = media(built[index])
        assert {_caption(source, one), other.caption} == {"image 0", "points 4"}


@pytest.mark.parametrize("outputs", [["image"], ["points"], []])
def test_only_what_is_asked_for_is_made(source: ManifestSource, outputs: list[str]) -> None:
    built = BuiltDialogues({"own": source}, size=150, outputs=outputs)
    assert set(built.kinds) == (set(WRITERS) if outputs else {"describe", "compare", "recall"})
    shown = [(role, item.modality) for index in range(150) for role, item in media(built[index])]
    assert {modality for role, modality in shown if role == "assistant"} == set(outputs)
    assert {modality for role, modality in shown if role == "user"} == {Modality.IMAGE, Modality.POINTS}
    offered = [text(built[index], 1) for index in range(150) if built.kind(index) in ("refuse", "offer")]
    others = [word for modality, word in WORDS.items() if modality not in outputs]
    assert not any(word in answer for answer in offered for word in others)


def test_written_dialogues_become_batches(source: ManifestSource, planner: Planner, tmp_path: Path) -> None:
    built = BuiltDialogues({"own": source}, size=60)
    done = convert({"built": built}, LinesWriter(tmp_path / "built"), Linter())["built"]
    again = JsonLines(tmp_path / "built" / "conversations.jsonl")
    both = [Modality.IMAGE, Modality.POINTS]
    collate = make_collator(
        planner,
        preprocess=dict.fromkeys(both, preprocess),
        outputs=both,
        prepare={modality: lambda medium: {"mean": torch.tensor(float(medium.array.mean()))} for modality in both},
        max_length=2048,
    )
    given, made = Counter[str](), Counter[str]()
    for start in range(0, 60, 4):
        batch = collate([again[index] for index in range(start, start + 4)])
        assert (batch.labels != IGNORED).any(dim=1).all(), "each dialogue teaches something"
        for modality, entries in batch.media.items():
            given[f"{modality} given"] += len(entries.rows)
        for modality, runs in batch.signals.items():
            made[f"{modality} made"] += len(runs.captions)
            assert all(runs.captions)
    assert given and made
    assert given + made == {name: count for name, count in done.report.kinds.items() if name in given | made}


def test_captions_that_end_a_sentence_get_no_second_stop(source: ManifestSource) -> None:
    built = BuiltDialogues({"own": source}, size=300)
    said = [text(built[i], turn) for i in range(300) for turn in range(len(built[i].messages))]
    assert any("A cow" in words for words in said) and not any(".." in words or ".:" in words for words in said)


def test_gallery_counts_what_it_leaves_out(manifest: Path) -> None:
    lines = manifest.read_text().splitlines()
    lines += [json.dumps({"modality": "smell", "path": "0.png", "caption": "a rose"}), "{broken"]
    manifest.write_text("\n".join(lines))
    pool = MediaPool({"own": ManifestSource(manifest)})
    assert pool.faults == {"own": 2} and pool.counts() == {"image": 4, "points": 3}
    assert len(pool.shared) == 3


class Talk(ConversationSource):
    """No media."""

    name = "talk"

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> Conversation:
        from isthmus.data.conversations.schema import Message

        return Conversation((Message("user", (TextItem("hi"),)), Message("assistant", (TextItem("hello"),))))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"size": 0}, "built.size: found 0"),
        ({"text_share": 0.5}, "found 0.5 with 0 sets of text"),
        ({"shares": {"draw": 1.0}}, "found draw: 1.0; expected .* for describe"),
        ({"shares": {"make": -1.0}}, "found make: -1.0"),
        ({"sets": {"talk": Talk()}}, "talk: found no medium with a file and a caption"),
        ({"concept": "kind"}, "own: found no conversation of one medium with a 'kind'"),
        ({"outputs": ["smell"]}, "built.outputs: found 'smell'; expected some of image, points"),
        ({"outputs": ["audio"]}, "built.outputs: found 'audio'; expected some of image, points"),
        ({"outputs": [], "shares": {"describe": 0, "compare": 0, "recall": 0}}, "where nothing can be made"),
    ],
)
def test_settings_that_make_no_sense_are_refused(
    settings: dict[str, Any], message: str, source: ManifestSource
) -> None:
    with pytest.raises(ValueError, match=message):
        BuiltDialogues(**({"sets": {"own": source}} | settings))
