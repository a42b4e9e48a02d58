"""``isthmus demo``: what is opened, what is trained before, and what is asked."""

from __future__ import annotations

import io
import os
import pty
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from tiny_world import tiny_clone

import isthmus
from isthmus import cli

ENVIRONMENT = os.environ | {"PYTHONPATH": str(Path(isthmus.__file__).parents[1])}
"""Of processes that start in another folder."""
PROGRAM = "from isthmus.cli import main; main()"
SHORT = {
    "training": {
        "run": ["encoder_alignment"],
        "stages": {"encoder_alignment": {"steps": 1}},
        "folder": "runs/curriculum",
    },
    "data": {"batch_size": 2, "num_workers": 0, "validation": {}},
    "trainer": {"accelerator": "cpu", "enable_progress_bar": False, "enable_model_summary": False, "callbacks": []},
    "model": {"backbone": {"init_args": {"max_length": 900}}},
}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ISTHMUS_DEBUG", raising=False)
    return tmp_path


def test_without_a_model_and_anybody_to_ask_it_says_what_to_run(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    with pytest.raises(SystemExit) as ended:
        cli.main(["demo"])
    said = capsys.readouterr().err
    assert ended.value.code == 2 and "found no runs/curriculum/instruction_tuning" in said
    assert "isthmus fit -c curriculum.yaml (some seven minutes" in said and "isthmus demo --yes" in said
    broken_off = here / "runs/curriculum/checkpoints/last.ckpt"
    broken_off.parent.mkdir(parents=True)
    broken_off.touch()
    with pytest.raises(SystemExit):
        cli.main(["demo"])
    assert "isthmus fit -c curriculum.yaml --ckpt_path last" in capsys.readouterr().err


def test_a_port_that_another_program_has_is_told_of(capsys: pytest.CaptureFixture[str]) -> None:
    """A browser would open the other's page."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(SystemExit):
            cli.main(["demo", "--model", "any", "--port", str(port)])
    assert f"--port {port}: found it taken" in (said := capsys.readouterr().err) and "choose another, or 0" in said


def test_nothing_is_trained_unasked(here: Path) -> None:
    """In a terminal it asks; a no ends it."""
    terminal, end = pty.openpty()
    command = [sys.executable, "-c", PROGRAM, "demo", "--no_browser"]
    with subprocess.Popen(command, stdin=end, stdout=subprocess.PIPE, env=ENVIRONMENT) as demo:
        os.write(terminal, b"n\n")
        assert demo.stdout is not None
        said = demo.stdout.read().decode()
    os.close(terminal)
    os.close(end)
    assert demo.returncode == 0 and "no trained bridges" in said and "now? [Y/n]" in said and not list(here.iterdir())


@pytest.mark.slow
def test_it_trains_what_is_missing_and_serves_it(here: Path) -> None:
    clone = tiny_clone(here / "clone")
    (clone / "configs").mkdir()
    (clone / "configs/curriculum.yaml").write_text(yaml.safe_dump(SHORT))  # comes before the package's own
    (clone / "runs/curriculum").mkdir(parents=True)
    (clone / "runs/curriculum/instruction_tuning").symlink_to(clone / "runs/curriculum/encoder_alignment")
    command = [sys.executable, "-c", PROGRAM, "demo", "--yes", "--no_browser", "--port", "0"]
    with subprocess.Popen(command, cwd=clone, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT) as demo:
        assert demo.stderr is not None
        said = ""
        while "Uvicorn running on" not in said:
            line = demo.stderr.readline()
            assert line, said
            said += line
        demo.send_signal(signal.SIGTERM)
        assert demo.wait(60) == 0, demo.stderr.read()
    assert "entered stage 'encoder_alignment'" in said
