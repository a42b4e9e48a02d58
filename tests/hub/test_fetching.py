"""Fetching from a hub on loopback: exactly what is needed, once, whole, and what the hub says that it is."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
from huggingface_hub import constants
from loopback_hub import LoopbackHub, blob_id, served

from isthmus.hub.address import address_of, is_address, parse_address, pinned
from isthmus.hub.download import PARTIAL
from isthmus.hub.snapshot import settings_alone
from isthmus.paths import checkpoint_path

WEIGHTS = bytes(range(256)) * 5000
FILES = {"config.json": b"{}", "tokenizer.json": b'{"a": 1}', "model.safetensors": WEIGHTS}
OTHERS = {"README.md": b"words", "pytorch_model.bin": b"pickle", "run_me.py": b"raise SystemExit"}


def kept(folder: Path) -> dict[str, bytes]:
    return {own.relative_to(folder).as_posix(): own.read_bytes() for own in folder.rglob("*") if own.is_file()}


def test_the_listed_files_and_no_others_are_fetched_once(hub: LoopbackHub, tmp_path: Path) -> None:
    commit = hub.add("org/name", FILES | OTHERS)
    folder = checkpoint_path("hf://org/name")
    assert kept(folder) == FILES and sorted(hub.fetched()) == sorted(FILES)
    assert folder == tmp_path / "cache/models--org--name/snapshots" / commit
    asked = len(hub.requests)
    assert checkpoint_path(Path("hf://org/name")) == folder and len(hub.requests) == asked  # a Path loses a slash
    assert str(address_of(folder / "config.json")) == f"hf://org/name@{commit}/config.json"
    assert checkpoint_path(f"hf://org/name@{commit}/model.safetensors").read_bytes() == WEIGHTS
    assert len(hub.requests) == asked


def test_the_hubs_own_library_finds_the_files(hub: LoopbackHub) -> None:
    from huggingface_hub import snapshot_download, try_to_load_from_cache

    hub.add("org/name", FILES)
    folder = checkpoint_path("hf://org/name")
    assert snapshot_download("org/name", local_files_only=True) == str(folder)
    assert try_to_load_from_cache("org/name", "model.safetensors") == str(folder / "model.safetensors")
    cache = Path(constants.HF_HUB_CACHE, "models--org--name")
    assert {own.name for own in (cache / "blobs").iterdir()} >= {blob_id(FILES["config.json"])}


def test_a_revision_is_pinned_for_the_process_and_by_name(hub: LoopbackHub) -> None:
    first = hub.add("org/name", FILES)
    tagged = hub.add("org/name", FILES | {"config.json": b'{"v": 1}'}, "v1.0")
    request = hub.add("org/name", FILES | {"config.json": b'{"pr": 7}'}, "refs/pr/7")
    assert checkpoint_path("hf://org/name").name == first
    hub.add("org/name", FILES | {"config.json": b'{"v": 2}'})  # main moves on
    assert checkpoint_path("hf://org/name").name == first
    assert pinned({"a": ["hf://org/name", 1], "b": "folder"}) == {"a": [f"hf://org/name@{first}", 1], "b": "folder"}
    assert checkpoint_path("hf://org/name@v1.0").name == tagged
    assert (checkpoint_path("hf://org/name@refs/pr/7") / "config.json").read_bytes() == b'{"pr": 7}'
    assert pinned("hf://org/name@refs/pr/7/config.json") == f"hf://org/name@{request}/config.json"


def test_a_broken_connection_goes_on_within_a_process_and_a_broken_process_in_the_next(hub: LoopbackHub) -> None:
    hub.add("org/name", FILES)
    hub.cut["model.safetensors"] = 300_000
    checkpoint_path("hf://org/name")  # the library asks again at once
    assert any(request.endswith("bytes=300000-") for request in hub.requests)

    commit = hub.add("org/other", FILES | {"model.safetensors": WEIGHTS[::-1]})
    folder = Path(constants.HF_HUB_CACHE, "models--org--other")
    partial = [f"{sha}{PARTIAL}" for sha in _digests(WEIGHTS[::-1])]
    (folder / "blobs").mkdir(parents=True)
    (folder / "blobs" / partial[0]).write_bytes(WEIGHTS[::-1][:1000])  # what a killed process leaves
    assert checkpoint_path("hf://org/other").name == commit
    assert (folder / "snapshots" / commit / "model.safetensors").read_bytes() == WEIGHTS[::-1]
    assert any(request.endswith("bytes=1000-") for request in hub.requests)
    assert not list(folder.rglob(f"*{PARTIAL}"))


def _digests(content: bytes) -> list[str]:
    import hashlib

    return [hashlib.sha256(content).hexdigest()]


def test_what_fails_leaves_its_part_and_is_told(hub: LoopbackHub) -> None:
    hub.add("org/name", FILES)
    hub.down.add("model.safetensors")
    with pytest.raises(ValueError, match=r"hf://org/name@\w+: model\.safetensors: it isn't whole .* Fix: look to the"):
        checkpoint_path("hf://org/name")
    hub.down.clear()
    before = hub.fetched()
    assert kept(checkpoint_path("hf://org/name")) == FILES
    assert hub.fetched()[len(before) :] == ["model.safetensors"]  # the others were kept


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_a_wrong_digest_is_refused_and_thrown_away(hub: LoopbackHub, name: str) -> None:
    hub.add("org/name", FILES)
    hub.wrong.add(name)
    with pytest.raises(ValueError, match=rf"{name}: found content with digest \w+; expected \w+, as the hub's listing"):
        checkpoint_path("hf://org/name")
    cache = Path(constants.HF_HUB_CACHE, "models--org--name")
    assert not list(cache.rglob(name)) and not list(cache.rglob(f"*{PARTIAL}"))
    hub.wrong.clear()
    assert kept(checkpoint_path("hf://org/name")) == FILES


def test_offline_the_cache_is_enough_and_what_it_lacks_is_told(
    hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add("org/name", FILES)
    with settings_alone():
        partly = checkpoint_path("hf://org/name")
    assert sorted(kept(partly)) == ["config.json", "tokenizer.json"] and "model.safetensors" not in hub.fetched()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ValueError, match=r"model\.safetensors: it isn't whole .*HF_HUB_OFFLINE is set.*Fix: unset"):
        checkpoint_path("hf://org/name")
    with pytest.raises(ValueError, match=r"hf://org/absent@main: it isn't whole"):
        checkpoint_path("hf://org/absent")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    checkpoint_path("hf://org/name")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    asked = len(hub.requests)
    from isthmus.hub.address import _commit

    _commit.cache_clear()  # as in another process
    assert kept(checkpoint_path("hf://org/name")) == FILES and len(hub.requests) == asked


def test_offline_a_cache_that_another_program_filled_is_enough(
    hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = hub.add("org/name", FILES)
    folder = Path(constants.HF_HUB_CACHE, "models--org--name/snapshots", commit)
    folder.mkdir(parents=True)
    for name, content in FILES.items():
        (folder / name).write_bytes(content)
    refs = folder.parents[1] / "refs"
    refs.mkdir()
    (refs / "main").write_text(commit)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert checkpoint_path("hf://org/name") == folder and not hub.requests


@pytest.mark.parametrize(
    ("named", "says"),
    [
        ("hf://org/pickled", r"hf://org/pickled@\w+: found weights as pytorch_model\.bin alone, which can run code"),
        ("hf://org/name@v9", r"hf://org/name@v9: found no such revision"),
        ("hf://org/gone", r"hf://org/gone@main: found no such repository"),
        ("hf://org/gated", r"hf://org/gated@main: found a repository whose terms this user hasn't accepted"),
        ("hf://name", r"hf://name: found no address of a model"),
        ("hf://datasets/org/name", r"found the address of a dataset"),
        ("hf://org/name/../x", r"found \.\. in the path"),
        ("hf://org/name/vae", r"found nothing there; expected a file or folder of config\.json"),
    ],
)
def test_what_cant_be_had_is_refused_before_anything_is_fetched(hub: LoopbackHub, named: str, says: str) -> None:
    hub.add("org/name", FILES)
    hub.add("org/pickled", {"config.json": b"{}", "pytorch_model.bin": b"0"})
    hub.add("org/gated", FILES)
    hub.gated.add("org/gated")
    with pytest.raises(ValueError, match=says):
        checkpoint_path(named)
    assert not hub.fetched()


def test_names_that_lead_out_of_the_cache_are_refused(hub: LoopbackHub, tmp_path: Path) -> None:
    hub.add("org/name", {"model_index.json": b"{}", "../outside.json": b"{}", "unet/a.safetensors": b"0"})
    with pytest.raises(ValueError, match=r"found '\.\./outside\.json' .*; expected a name within the repository"):
        checkpoint_path("hf://org/name")
    assert not hub.fetched() and not list(tmp_path.rglob("outside.json"))


def test_paths_are_no_addresses() -> None:
    for named in ("checkpoints/llama", "./hf:/x", "hf", "hf://", "/hf://a/b", Path("a/hf:/b"), None, 3):
        assert not is_address(named)
    assert str(parse_address(Path("hf://org/name@v1/a/b"))) == "hf://org/name@v1/a/b"


def test_processes_that_start_together_fetch_each_file_once(tmp_path: Path) -> None:
    program = "from isthmus.paths import checkpoint_path; print(checkpoint_path('hf://org/name'))"
    with served() as (hub, address):
        hub.add("org/name", FILES)
        environment = os.environ | {"HF_HUB_CACHE": str(tmp_path), "HF_ENDPOINT": address, "HF_HUB_OFFLINE": "0"}
        ranks = [
            subprocess.Popen([sys.executable, "-c", program], env=environment, stdout=subprocess.PIPE, text=True)
            for _ in range(2)
        ]
        folders = {rank.communicate(timeout=120)[0].strip() for rank in ranks}
        assert len(folders) == 1 and kept(Path(folders.pop())) == FILES
        assert sorted(hub.fetched()) == sorted(FILES)


def test_addresses_survive_pickling_as_the_commit_that_was_loaded(hub: LoopbackHub, tmp_path: Path) -> None:
    from tiny_parts import write_whisper

    from isthmus.encoders.speech.whisper import Whisper

    write_whisper(tmp_path / "whisper")
    commit = hub.add("org/whisper", tmp_path / "whisper")
    encoder = Whisper("hf://org/whisper")
    assert f"hf://org/whisper@{commit}".encode() in pickle.dumps(encoder)
