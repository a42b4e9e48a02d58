"""``isthmus experts`` and ``rehearse`` as a user runs them, with experts on a hub on loopback."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from loopback_hub import LoopbackHub, reached
from tiny_world import tiny_clone

from isthmus.cli import main
from isthmus.cli.experts.known import KNOWN
from isthmus.cli.rehearse import PUBLISHED
from isthmus.training.rehearsal.published_large import LARGE

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
LLM_OF_MINE = {"init_args": {"language_model": {"init_args": {"checkpoint": "checkpoints/mine"}}}}


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackHub]:
    """Has the tiny LLM and ImageBind, without the clone's copies of either."""
    clone = tiny_clone(tmp_path / "clone")
    monkeypatch.chdir(clone)
    monkeypatch.setattr("sys.argv", ["isthmus"])
    with reached(tmp_path / "cache", monkeypatch) as found:
        for name in ("llama", "imagebind"):
            found.add(f"tiny/{name}", clone / "experts" / name, licence={"llama": "apache-2.0"}.get(name, ""))
            (clone / "checkpoints/pocket" / name).unlink()
        config = {
            "model": {
                "backbone": {"init_args": {"language_model": {"init_args": {"checkpoint": "hf://tiny/llama"}}}},
                "input_side": {
                    "init_args": {
                        "encoders": [
                            {
                                "class_path": "isthmus.encoders.ImageBind",
                                "init_args": {"checkpoint": "hf://tiny/imagebind"},
                            },
                            {
                                "class_path": "isthmus.encoders.PointBert",
                                "init_args": {"checkpoint": "checkpoints/tiny/point_bert"},
                            },
                        ]
                    }
                },
            }
        }
        (clone / "checkpoints/tiny").mkdir()
        (clone / "checkpoints/tiny/point_bert").symlink_to(clone / "experts/point_bert")
        Path("mine.yaml").write_text(yaml.safe_dump(config))
        yield found


def rows(said: str) -> dict[str, str]:
    return {line.split()[0]: line for line in said.splitlines() if line}


def test_what_a_config_needs_is_listed_and_fetched(hub: LoopbackHub, capsys: pytest.CaptureFixture[str]) -> None:
    main(["experts", "-c", "stage1.yaml", "-c", "mine.yaml"])
    said = rows(capsys.readouterr().out)
    assert "CausalBackbone" in said["hf://tiny/llama"] and "apache-2.0" in said["hf://tiny/llama"]
    assert "missing: " in said["hf://tiny/llama"] and "not said" in said["hf://tiny/imagebind"]
    assert said["checkpoints/tiny/point_bert"].endswith("checkpoints/tiny/point_bert")
    assert said["to"].startswith("to be fetched: 0.") and not hub.fetched()

    main(["experts", "-c", "stage1.yaml", "-c", "mine.yaml", "--fetch"])
    assert "to be fetched" not in capsys.readouterr().out and "model.safetensors" in hub.fetched()
    asked = len(hub.fetched())
    main(["experts", "hf://tiny/llama", "--fetch"])
    assert "models--tiny--llama/snapshots" in capsys.readouterr().out and len(hub.fetched()) == asked


def test_what_nobody_can_fetch_is_told(hub: LoopbackHub, capsys: pytest.CaptureFixture[str]) -> None:
    hub.add("tiny/llama", {"config.json": b"{}", "pytorch_model.bin": b"0"})
    Path("checkpoints/tiny/point_bert").unlink()
    with pytest.raises(SystemExit, match="2"):
        main(["experts", "-c", "stage1.yaml", "-c", "mine.yaml"])
    said = capsys.readouterr().err
    assert "hf://tiny/llama" in said and "pytorch_model.bin alone, which can run code" in said
    assert "checkpoints/tiny/point_bert: found no such file or folder for" in said and "hf://org/name" in said


def test_published_checkpoints_that_are_not_there_are_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["isthmus"])
    with pytest.raises(SystemExit, match="2"):
        main(["experts", "-c", "experts/nextgpt.yaml"])
    listed, said = capsys.readouterr()
    assert "Llama 2" in rows(listed)["checkpoints/vicuna-7b-v1.5"]
    assert "about 13.5 GB" in rows(listed)["checkpoints/vicuna-7b-v1.5"] and "16 bits" in rows(listed)["about:"]
    assert "Fix: hf download lmsys/vicuna-7b-v1.5 --local-dir checkpoints/vicuna-7b-v1.5" in said
    assert "Fix: curl --create-dirs -o checkpoints/imagebind/imagebind_huge.pth https://" in said

    Path("mine.yaml").write_text(yaml.safe_dump({"model": {"backbone": LLM_OF_MINE}}))
    with pytest.raises(SystemExit, match="2"):
        main(["experts", "-c", "mine.yaml"])
    assert "unknown until fetched" in rows(capsys.readouterr().out)["checkpoints/mine"]


def test_what_is_known_is_what_can_be_rehearsed_and_what_the_configs_say() -> None:
    assert KNOWN.keys() == PUBLISHED.keys()
    configs = "".join((CONFIGS / "experts" / name).read_text() for name in ("nextgpt.yaml", "modern.yaml"))
    said = " ".join(configs.replace("#", " ").split())
    named_there = [folder for folder in KNOWN if folder in said]
    assert set(KNOWN) - set(named_there) == set(LARGE), "those are for plans and rehearsals of what users compose"
    for folder in named_there:
        known = KNOWN[folder]
        assert known.licence.removesuffix(" 2") in said
        named = f"checkpoints/{folder}" + ("/imagebind_huge.pth" if folder == "imagebind" else "")
        assert known.command(named) in said.replace(" \\ ", " ")


@pytest.mark.slow
def test_a_rehearsal_fetches_settings_and_no_weights(hub: LoopbackHub, capsys: pytest.CaptureFixture[str]) -> None:
    small = ["--data.batch_size", "2", "--words", "4"]
    main(["rehearse", "-c", "stage1.yaml", "-c", "mine.yaml", *small])
    assert "encoder ImageBind" in capsys.readouterr().out
    assert {"config.json", "tokenizer.json"} <= set(hub.fetched())
    assert not [name for name in hub.fetched() if name.endswith(".safetensors")]
