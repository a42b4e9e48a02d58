"""What a manifest says of the data: files, a hash of their content, the licence of a card beside them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from data.streaming.shard_sets import sharded

from isthmus.data.conversations.sources import JsonLines
from isthmus.data.formats import MediaFolder, ShareGPT
from isthmus.data.streaming.source import Shards
from isthmus.model.bundle import read_manifest
from isthmus.pocket.tasks import TextOnly
from isthmus.training.provenance import provenance

TURNS = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]
CARD = "---\nlicense: {}\n---\n# A set\n"


def write(file: Path, count: int = 2) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps({"messages": TURNS, "id": i}) + "\n" for i in range(count)))
    return file


def test_files_their_content_and_their_licence(tmp_path: Path) -> None:
    file = write(tmp_path / "set" / "data" / "train" / "chat.jsonl")
    (tmp_path / "set" / "README.md").write_text(CARD.format("cc-by-4.0"))
    sources = {"chat": JsonLines(file), "same": ShareGPT(file), "made": TextOnly(size=5)}
    told = provenance(sources)
    assert told["chat"] == {
        "class": "isthmus.data.conversations.sources.JsonLines",
        "conversations": 2,
        "files": [str(file)],
        "content": told["same"]["content"],
        "licence": "cc-by-4.0",
    }
    assert told["made"] == {"class": "isthmus.pocket.tasks.TextOnly", "conversations": 5}
    assert set(provenance(sources, {"made": 1.0})) == {"made"}
    write(file, 3)
    assert provenance({"chat": JsonLines(file)})["chat"]["content"] != told["chat"]["content"]


@pytest.mark.parametrize(
    ("name", "text", "licence"),
    [
        ("README.md", CARD.format("[mit, apache-2.0]"), "apache-2.0, mit"),
        ("README.md", CARD.format("''"), None),
        ("README.md", "# A set\n---\nlicense: mit\n---\n", None),
        ("README.md", "---\nlicense: [\n---\n", None),
        ("dataset_info.json", '{"license": "odc-by"}', "odc-by"),
        ("dataset_info.json", "[]", None),
        ("dataset_info.json", "{", None),
    ],
)
def test_cards_are_read_as_they_are(tmp_path: Path, name: str, text: str, licence: str | None) -> None:
    (tmp_path / name).write_text(text)
    told = provenance({"chat": JsonLines(write(tmp_path / "chat.jsonl"))})["chat"]
    assert told.get("licence") == licence


def test_a_card_further_up_is_another_sets(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text(CARD.format("mit"))
    assert "licence" not in provenance({"c": JsonLines(write(tmp_path / "a" / "b" / "c" / "chat.jsonl"))})["c"]


def test_shards_are_told_by_their_index_and_folders_by_their_names(tmp_path: Path) -> None:
    made: dict[str, Any] = {}
    for name, count in (("a", 2), ("b", 2), ("c", 3)):
        source = JsonLines(write(tmp_path / f"{name}.jsonl", count))
        made[name] = provenance({"set": Shards(sharded(source, str(tmp_path / name)))})["set"]["content"]
    assert made["a"] == made["b"] != made["c"]
    from PIL import Image

    (tmp_path / "folder" / "cat").mkdir(parents=True)
    before = None
    for i in range(2):
        Image.new("RGB", (4, 4)).save(tmp_path / "folder" / "cat" / f"{i}.png")
        told = provenance({"folder": MediaFolder(tmp_path / "folder")})["folder"]
        assert told["files"] == [str(tmp_path / "folder")] and told["content"] != before
        before = told["content"]


def test_a_stages_manifest_names_its_sources(whole: tuple[Path, Any, Any]) -> None:
    for stage, names in (("encoder_alignment", {"describe"}), ("instruction_tuning", {"any_to_any", "draw"})):
        assert set(read_manifest(whole[0] / stage)["data"]) == names
