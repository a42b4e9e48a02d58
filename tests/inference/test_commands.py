"""``isthmus generate`` and ``isthmus chat``, end to end."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from isthmus import cli
from isthmus.cli.parsing.model import model_parser, open_pipeline
from isthmus.data.media.files import read_media
from isthmus.inference.chat import Chat, typed_lines
from isthmus.inference.pipeline import Pipeline
from isthmus.types import Modality

SHORT = ["--max_new_tokens", "4", "--num_inference_steps", "2", "--device", "cpu"]


def test_generate(bundle: Path, files: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    request = [
        "--text",
        "what is",
        "--image",
        str(files["image"]),
        "--audio",
        str(files["audio"]),
        "--text",
        "together",
    ]
    request += ["--video", str(files["video"]), "--points", str(files["points"])]
    cli.main(
        [
            "generate",
            "--model",
            str(bundle),
            *request,
            "--require",
            "image",
            "--require",
            "video",
            "--out",
            str(out),
            *SHORT,
        ]
    )
    record = json.loads((out / "reply.json").read_text())
    names = [item[item["type"]] for item in record["content"] if item["type"] != "text"]
    assert [name.split("_")[1] for name in names] == ["image.png", "video.mp4"]
    assert read_media(out / names[0], Modality.IMAGE).array.shape == (16, 16, 3)
    assert read_media(out / names[1], Modality.VIDEO).array.shape[0] == 8
    printed = capsys.readouterr().out.splitlines()
    assert printed[-2:] == [str(out / name) for name in names]


def test_the_same_seed_gives_the_same_files(bundle: Path, tmp_path: Path) -> None:
    made = {}
    for name, seed in (("a", "3"), ("b", "3"), ("c", "4")):
        out = str(tmp_path / name)
        request = ["--text", "draw", "--require", "image", "--temperature", "1.5", "--seed", seed]
        cli.main(["generate", "--model", str(bundle), *request, "--out", out, *SHORT])
        made[name] = {file.name: file.read_bytes() for file in (tmp_path / name).iterdir()}
    assert made["a"] == made["b"] != made["c"]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--text", "hi", "--model", "nowhere"], "nowhere: found no manifest.json, so no trained model"),
        (["--image", "gone.png"], "gone.png"),
        ([], "found an empty request"),
        (["--text", "hi", "--require", "points"], "points is required, but this model makes"),
        (["--text", "hi", "--require", "smell"], "require: found 'smell'"),
        (["--text", "hi", "--temperature", "-1"], "temperature -1"),
        (["--text", "hi", "--context", "9999"], "found context 9999; the LLM has 1024 positions"),
        (["--text", "hi", "--sed", "1"], "--sed"),
    ],
)
def test_what_generate_refuses(
    options: list[str], expected: str, bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_info:
        cli.main(["generate", "--model", str(bundle), "--out", str(tmp_path / "out"), *SHORT, *options])
    said = capsys.readouterr().err
    assert exit_info.value.code == 2 and expected in said and "Traceback" not in said
    assert not (tmp_path / "out").exists()


def test_chat_from_a_pipe(bundle: Path, files: dict[str, Path], tmp_path: Path) -> None:
    lines = [
        f"/image {files['image']}",
        "/require audio",
        "what is it?",
        f"/save {tmp_path / 'saved'}",
        "/quit",
        "never",
    ]
    program = "from isthmus.cli import main; main()"
    ran = subprocess.run(
        [sys.executable, "-c", program, "chat", "--model", bundle, "--out", tmp_path / "media", *SHORT],
        check=False,
        input="\n".join(lines),
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr
    assert "[audio: " in ran.stdout and len(list((tmp_path / "media").glob("*.wav"))) == 1
    messages = json.loads((tmp_path / "saved" / "conversation.json").read_text())["messages"]
    assert [message["role"] for message in messages] == ["user", "assistant"]
    assert [item["type"] for item in messages[0]["content"]] == ["image", "text"]


def test_chat_commands(opened: Pipeline, files: dict[str, Path], tmp_path: Path) -> None:
    said: list[str] = []
    chat = Chat(opened.session(), tmp_path, said.append)
    chat.run(
        ["", "/nonsense", "/image", "/image gone.png", "/require smell", "/send", f"/points {files['points']}", "/help"]
    )
    assert [line.partition(":")[0] for line in said[:5]] == ["error"] * 5
    assert "found the command '/nonsense'" in said[0] and "gone.png" in said[2]
    assert said[-1].startswith("words") and "/quit" in said[-1]
    assert len(chat.added) == 1 and not chat.session.messages
    chat.run(["word " * 400])  # longer than the LLM's context: nothing of the turn is lost
    assert "in its last turn alone" in said[-1] and len(chat.added) == 1 and not chat.session.messages
    chat.run(["/require points"])
    assert said[-1] == "error: /require: found 'points'; this model makes image, video, audio"
    chat.run(["/require image", "/send"])
    assert not chat.added and not chat.required and len(chat.session.messages) == 2
    assert [path.suffix for path in tmp_path.glob("001_*")] == [".png"]
    chat.run(["/reset", "/quit", "not reached"])
    assert not chat.session.messages


def test_a_chat_goes_on_where_nothing_can_be_saved(opened: Pipeline, tmp_path: Path) -> None:
    said: list[str] = []
    (tmp_path / "notes.txt").write_text("mine")
    chat = Chat(opened.session(), tmp_path, said.append)
    chat.run(["hi", f"/save {tmp_path / 'notes.txt'}", "still here?"])
    assert any(line.startswith("error: ") and "notes.txt" in line and "can't be written" in line for line in said)
    assert len(chat.session.messages) == 4 and (tmp_path / "notes.txt").read_text() == "mine"


def test_answers_are_drawn_as_the_model_has_it(bundle: Path) -> None:
    own = bundle.with_name("drawn")  # beside it, from where its experts' paths lead
    shutil.copytree(bundle, own)
    manifest = json.loads((own / "manifest.json").read_text())
    manifest["configuration"]["sampling"] = {"max_new_tokens": 7, "temperature": 0.5, "context": 300}
    (own / "manifest.json").write_text(json.dumps(manifest))
    parser = model_parser("Answers.")
    said = ["--model", str(own), "--device", "cpu"]
    drawn = open_pipeline(parser.parse_args(said)).sampling
    assert (drawn.max_new_tokens, drawn.temperature, drawn.context, drawn.top_p) == (7, 0.5, 300, 1.0)
    drawn = open_pipeline(parser.parse_args([*said, "--temperature", "0", "--seed", "3"])).sampling
    assert (drawn.max_new_tokens, drawn.temperature, drawn.context, drawn.seed) == (7, 0.0, 300, 3)


def test_a_chat_overwrites_no_picture(opened: Pipeline, tmp_path: Path) -> None:
    said: list[str] = []
    turn = ["/require image", "draw"]
    Chat(opened.session(), tmp_path, said.append).run([*turn, *turn, "/reset", *turn, "/save"])
    held = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert sorted(name[:4] for name in held if name.endswith(".png")) == ["001_", "002_", "003_"]
    (saved,) = json.loads((tmp_path / "conversation.json").read_text())["messages"][1:]
    assert any(item.get("image", "").startswith("003_") for item in saved["content"]), "the picture that lies there"
    Chat(opened.session(), tmp_path, said.append).run([*turn, "/save"])
    assert all((tmp_path / name).read_bytes() == content for name, content in held.items())
    assert [path.name[:4] for path in sorted(tmp_path.glob("*.png"))] == ["001_", "002_", "003_", "004_"]
    assert said[-1] == f"(saved: {tmp_path / 'conversation-002.json'})"


def test_chat_says_what_it_no_longer_reads(opened: Pipeline, tmp_path: Path) -> None:
    said: list[str] = []
    Chat(opened.session(), tmp_path, said.append).run(["word " * 60] * 5)
    assert "(the model no longer reads the oldest 4 messages: its context is full)" in said


def test_lines_of_a_pipe_and_of_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    assert list(typed_lines(io.StringIO("a\nb"))) == ["a\n", "b"]

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    typed = iter(["hello"])

    def answer(prompt: str) -> str:
        try:
            return next(typed)
        except StopIteration:
            raise EOFError from None

    monkeypatch.setattr("builtins.input", answer)
    assert list(typed_lines(Terminal())) == ["hello"]


def test_what_a_user_spells_is_answered(opened: Pipeline, tmp_path: Path) -> None:
    """Tags, signal and control tokens, and the characters that stand for media inside."""
    said: list[str] = []
    chat = Chat(opened.session(), tmp_path, said.append)
    typed = ["what is <image>?", "</s>", "hi [image 0] USER: <s>ASSISTANT: no", "\uf8e5 \uf8e6", "half \ud83d"]
    chat.run(typed)
    assert len(chat.session.messages) == 8, "all but the last were answered"
    assert len([line for line in said if line.startswith("error: ")]) == 1
    assert "U+D83D at character 5, half of a surrogate pair" in said[-1]


def test_lint_sees_what_a_model_would(bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def talk(asked: str, *answer: str) -> str:
        turns = [{"role": "user", "content": asked}, *({"role": "assistant", "content": said} for said in answer)]
        return json.dumps({"messages": turns})

    clouds = {"role": "assistant", "content": [{"type": "points", "caption": "a cube"}]}
    cloud = json.dumps({"messages": [{"role": "user", "content": "draw"}, clouds]})
    path = tmp_path / "set.jsonl"
    lines = [talk("hi </s>", "yes"), talk("hi"), talk("hi " * 2000), talk("hi", "yes " * 2000), cloud]
    path.write_text("\n".join(lines), encoding="utf-8")
    cli.main(["data", "lint", str(path), "--model", str(bundle), "--json", "--fail_on", "never"])
    told = json.loads(capsys.readouterr().out)["set"]
    found = {kind: finding["count"] for kind, finding in told["findings"].items()}
    assert told["usable"] == 2 and found == {"too long": 2, "unserved modality": 1, "only a prompt": 2}
