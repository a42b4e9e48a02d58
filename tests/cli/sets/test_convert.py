"""``isthmus data convert`` from the outside: every format, what is skipped, and conversions that are killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from data.streaming.shard_sets import lines, plain, same

from isthmus.cli import main
from isthmus.data.conversations.sources import JsonLines
from isthmus.data.formats import ManifestSource
from isthmus.data.streaming import Shards


def code(*words: str) -> int:
    try:
        main(["data", "convert", *words])
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


@pytest.mark.parametrize("to", ["shards", "jsonl"])
def test_there_and_back_in_either_form(tmp_path: Path, capsys: pytest.CaptureFixture[str], to: str) -> None:
    path = lines(tmp_path / "in", 12)
    out = str(tmp_path / "out")
    assert code(str(path), out, "--to", to, "--largest", "0.01") == 0
    assert "set: 12 of 12 written; skipped: none" in capsys.readouterr().out
    made = Shards(out) if to == "shards" else JsonLines(tmp_path / "out" / "conversations.jsonl")
    assert same(made, JsonLines(path))
    if to == "jsonl":
        assert len(list((tmp_path / "out" / "media").rglob("*.*"))) == 4, "each file is there once"
        assert code(out + "/conversations.jsonl", str(tmp_path / "again")) == 0
        assert same(Shards(str(tmp_path / "again")), JsonLines(path))
        assert code(str(path), out, "--to", to) == 2 and "expected no set there" in capsys.readouterr().err
    else:
        config = tmp_path / "own.yaml"
        source = f"{{class_path: isthmus.data.streaming.Shards, init_args: {{path: {out}}}}}"
        config.write_text(f"data: {{sources: {{a: {source}}}}}", encoding="utf-8")
        assert code(str(config), str(tmp_path / "back"), "--to", "jsonl") == 0
        assert same(JsonLines(tmp_path / "back" / "conversations.jsonl"), JsonLines(path))
        before = {one.name: one.stat().st_mtime_ns for one in (tmp_path / "out").glob("*.tar")}
        assert code(str(path), out, "--largest", "0.01") == 0, "a finished conversion has nothing left to do"
        assert before == {one.name: one.stat().st_mtime_ns for one in (tmp_path / "out").glob("*.tar")}
        assert code(str(path), out) == 2


def test_what_is_left_out_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = lines(tmp_path, 10)
    kept = path.read_text(encoding="utf-8")
    path.write_text("{\n" + kept.replace("a.wav", "gone.wav"), encoding="utf-8")
    (tmp_path / "a.png").write_bytes(b"no picture")
    assert code(str(path), str(tmp_path / "out"), "--json") == 1
    told = json.loads(capsys.readouterr().out)["set"]
    assert (told["read"], told["written"]) == (11, 6)
    assert told["skipped"] == {"schema": 1, "path": 2, "corrupt": 2} and told["resumed"] == 0
    assert told["report"]["findings"]["path"]["count"] == 2
    assert f"{path}:1: found no JSON" in told["report"]["findings"]["schema"]["examples"][0]
    made = Shards(str(tmp_path / "out"))
    assert [made[i].details["id"] for i in range(len(made))] == ["n0", "n2", "n4", "n5", "n7", "n9"]
    assert code(str(path), str(tmp_path / "quick"), "--quick", "--fail_on", "never") == 0
    assert "set: 8 of 11 written; skipped: 2 path, 1 schema" in capsys.readouterr().out


def test_rows_of_a_manifest_become_files(tmp_path: Path, shared: Path) -> None:
    manifest = shared / "data" / "ldraw3d" / "manifest.jsonl"
    if not manifest.is_file():
        pytest.skip(f"no set at {manifest}")
    short = tmp_path / "manifest.jsonl"
    with manifest.open(encoding="utf-8") as file:
        short.write_text("".join(next(file) for _ in range(6)), encoding="utf-8")
    assert code(str(short), str(tmp_path / "out"), "--format", "ManifestSource", "--root", str(manifest.parent)) == 0
    made, source = Shards(str(tmp_path / "out")), ManifestSource(short, manifest.parent)
    assert len(made) == 6 and made.labels() == ["points"] * 6
    assert [made[i].details for i in range(6)] == [source[i].details for i in range(6)]


def test_several_sets_in_a_drawn_order(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines(tmp_path / "a", 9), lines(tmp_path / "b", 7)
    words = [str(tmp_path / "a" / "set.jsonl"), str(tmp_path / "b" / "set.jsonl")]
    assert code(*words, str(tmp_path / "one"), "--shuffle", "3", "--quick") == 0
    assert code(*words, str(tmp_path / "two"), "--shuffle", "4", "--quick") == 0
    found = [
        [plain(source[i])[1]["id"] for i in range(16)] for source in map(Shards, [f"{tmp_path}/one", f"{tmp_path}/two"])
    ]
    assert found[0] != found[1]
    for ids in found:
        assert sorted(ids[:9]) == sorted(f"n{i}" for i in range(9)) and sorted(ids[9:]) == sorted(
            f"n{i}" for i in range(7)
        )
        assert ids[:9] != [f"n{i}" for i in range(9)]


@pytest.mark.slow
def test_a_killed_conversion_is_gone_on_with(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, out = lines(tmp_path / "in", 800), tmp_path / "out"
    words = [str(path), str(out), "--largest", "0.1", "--json"]
    program = "from isthmus.cli import main; import sys; main(['data', 'convert', *sys.argv[1:]])"
    started = subprocess.Popen([sys.executable, "-c", program, *words], stdout=subprocess.DEVNULL)
    try:
        until = time.monotonic() + 120
        while len(list(out.glob("*.tar"))) < 2 and time.monotonic() < until:
            assert started.poll() is None
            time.sleep(0.01)
    finally:
        os.kill(started.pid, signal.SIGKILL)
        started.wait()
    with pytest.raises(ValueError, match="found an unfinished conversion"):
        Shards(str(out))
    assert code(*words) == 0
    told = json.loads(capsys.readouterr().out)["set"]
    assert told["read"] == told["written"] == 800 and 0 < told["resumed"] < 800
    assert code(*words[:1], str(tmp_path / "unbroken"), *words[2:]) == 0
    for file in sorted((tmp_path / "unbroken").iterdir()):
        if file.name != "shards.json":
            assert (out / file.name).read_bytes() == file.read_bytes()
