"""Published files in every layout that is at hand: all of them become conversations."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from isthmus.data.conversations.schema import MediumItem
from isthmus.data.conversations.sources import ConversationSource
from isthmus.data.errors import DataError, Fault
from isthmus.data.formats import Alpaca, AudioCaps, Llava, NextGPTFolder, NextGPTPairs, ShareGPT


@pytest.fixture
def published(shared: Path) -> Path:
    folder = shared / "data" / "chat_metrics"
    if not folder.is_dir():
        pytest.skip(f"published sets are not at {folder}")
    return folder


def names(value: object) -> set[str]:
    """Every string in a JSON value that could be a medium's file."""
    if isinstance(value, dict):
        return {name for inner in value.values() for name in names(inner)}
    if isinstance(value, list):
        return {name for inner in value for name in names(inner)}
    is_file = isinstance(value, str) and Path(value).suffix in (".jpg", ".mp4", ".avi", ".wav", ".mp3", ".flac")
    return {str(value)} if is_file and len(str(value)) < 100 else set()


def beside_its_media(path: Path, folder: Path) -> Path:
    """A copy of a file, and an empty file for every medium that it names: paths are looked for, not yet opened."""
    copy = Path(shutil.copy(path, folder))
    text = copy.read_text(encoding="utf-8")
    raw = [json.loads(line) for line in text.splitlines() if line] if path.suffix == ".jsonl" else json.loads(text)
    for name in names(raw):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return copy


def contents(source: ConversationSource) -> Counter[str]:
    found = Counter[str]()
    for i in range(len(source)):
        for message in source[i].messages:
            side = "made" if message.role == "assistant" else "given"
            kinds = (str(item.modality) if isinstance(item, MediumItem) else "text" for item in message.content)
            found.update(f"{kind} {side}" for kind in kinds)
    return found


NEXTGPT = "NExT-GPT+NExT-GPT/data/T_X_pair_data"
FACTORY = "hiyouga+LLaMA-Factory/data"
FILES: list[tuple[str, Callable[[Path], ConversationSource], int, dict[str, int]]] = [
    *(
        (f"{NEXTGPT}/{folder}/{folder}{way}.json", NextGPTPairs, 20, expected)
        for folder, kind in (("cc3m", "image"), ("webvid", "video"), ("audiocap", "audio"))
        for way, expected in (
            ("", {f"{kind} given": 20, "text given": 20, "text made": 20}),
            ("_comprehension", {f"{kind} given": 20, "text given": 20, "text made": 20}),
            ("_generation", {f"{kind} made": 20, "text given": 20, "text made": 20}),
        )
    ),
    (f"{FACTORY}/mllm_demo.json", ShareGPT, 6, {"image given": 8, "text given": 12, "text made": 12}),
    (f"{FACTORY}/mllm_audio_demo.json", ShareGPT, 3, {"audio given": 3, "text given": 3, "text made": 3}),
    (f"{FACTORY}/mllm_video_demo.json", ShareGPT, 3, {"video given": 3, "text given": 3, "text made": 3}),
    (
        f"{FACTORY}/mllm_video_audio_demo.json",
        ShareGPT,
        3,
        {"video given": 3, "audio given": 3, "text given": 3, "text made": 3},
    ),
    (f"{FACTORY}/v1_multimodal_demo.jsonl", ShareGPT, 24, {"image given": 32, "text given": 48, "text made": 48}),
    (f"{FACTORY}/alpaca_en_demo.json", Alpaca, 999, {"text given": 999, "text made": 999}),
    (f"{FACTORY}/identity.json", Alpaca, 91, {"text given": 91, "text made": 91}),
    ("tatsu-lab+stanford_alpaca/seed_tasks.jsonl", Alpaca, 175, {"text given": 175, "text made": 175}),
    (
        "haotian-liu+LLaVA/playground/data/coco2014_val_qa_eval/qa90_questions.jsonl",
        Llava,
        90,
        {"image given": 90, "text given": 90},
    ),
    (
        "haotian-liu+LLaVA/playground/data/coco2014_val_gpt4_qa_30x3.jsonl",
        Alpaca,
        90,
        {"image given": 90, "text given": 90, "text made": 90},
    ),
]


@pytest.mark.parametrize(("name", "form", "size", "expected"), FILES, ids=[Path(file[0]).name for file in FILES])
def test_published_files_become_conversations(
    published: Path,
    tmp_path: Path,
    name: str,
    form: Callable[[Path], ConversationSource],
    size: int,
    expected: dict[str, int],
) -> None:
    source = form(beside_its_media(published / name, tmp_path))
    found = contents(source)
    assert len(source) == size and found == expected


def test_a_medium_that_is_not_there_is_told(published: Path) -> None:
    source = ShareGPT(published / FACTORY / "mllm_demo.json")
    with pytest.raises(DataError, match=r"mllm_demo\.json:2: messages\[0\].*no file at") as caught:
        source[0]
    assert caught.value.fault is Fault.PATH


def test_captions_alone_need_no_target_files(published: Path) -> None:
    source = NextGPTPairs(published / NEXTGPT / "cc3m" / "cc3m_generation.json", target_files=False)
    made = [item for item in source[0].messages[1].content if isinstance(item, MediumItem)]
    assert [item.media for item in made] == [None]
    assert made[0].caption == "cricket player was named award category and runner - up behind person"


def test_a_whole_nextgpt_folder(published: Path, tmp_path: Path) -> None:
    shutil.copytree(published / NEXTGPT, tmp_path / "data" / "T_X_pair_data")
    for folder, media in (("cc3m", "images"), ("webvid", "videos"), ("audiocap", "audios")):
        place = tmp_path / "data" / "T_X_pair_data" / folder
        (place / media).mkdir()
        for name in names(json.loads((place / f"{folder}.json").read_text(encoding="utf-8"))):
            (place / media / name).touch()
    source = NextGPTFolder(tmp_path / "data")
    assert len(source) == 120
    sides = {f"{kind} {side}": 20 for kind in ("image", "video", "audio") for side in ("given", "made")}
    assert contents(source) == {**sides, "text given": 120, "text made": 120}
    assert source.where(119).startswith(str(source.parts[-1].records.path))


def test_audiocaps_tables(published: Path, tmp_path: Path) -> None:
    table = published / "cdjkim+audiocaps" / "dataset" / "val.csv"
    source = AudioCaps(table, root=tmp_path, direction="draw", target_files=False)
    assert len(source) == 2475
    for i in range(len(source)):
        (medium,) = source[i].messages[1].content
        assert isinstance(medium, MediumItem) and medium.caption and medium.media is None
    assert len(AudioCaps(table.with_name("train.csv"), root=tmp_path)) == 49_838
    assert len(AudioCaps(table.with_name("test.csv"), root=tmp_path)) == 4_875
