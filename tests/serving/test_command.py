"""``isthmus serve`` as a process: a model from a folder, and an end that finishes what runs."""

from __future__ import annotations

import base64
import io
import os
import re
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import openai
import psutil
import pytest
from PIL import Image
from served import wait_for

from isthmus import cli
from isthmus.cli.serve import named_folders
from isthmus.serving.guard.uploads import PREFIX


def test_sigterm_finishes_what_runs(bundle: Path, tmp_path: Path) -> None:
    """It goes to all processes of the server, as a terminal's Ctrl-C and many supervisors' signals do."""
    (tmp_path / "keys").write_text("open sesame\n")
    program = "from isthmus.cli import main; main()"
    options = ["--model", bundle, "--port", "0", "--api_keys", tmp_path / "keys", "--device", "cpu", "--name", "mine"]
    options += ["--host", "0.0.0.0", "--hosts", "127.0.0.1, localhost", "--page", "false", "--decoders", "1"]
    command = [sys.executable, "-c", program, "serve", *options, "--num_inference_steps", "2"]
    own = os.environ | {"HTTP_PROXY": "", "TMPDIR": str(tmp_path)}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=own, start_new_session=True) as server:
        try:
            assert server.stderr is not None
            said = ""
            while not (found := re.search(r"http://0\.0\.0\.0:(\d+)", said)):
                line = server.stderr.readline()
                assert line, said
                said += line
            rest = threading.Thread(target=server.stderr.read)
            rest.start()
            address = f"http://127.0.0.1:{found[1]}"
            with pytest.raises(HTTPError, match="421"):  # a page of another site, whose name leads here
                urlopen(Request(f"{address}/v1/models", headers={"Host": f"evil.example.org:{found[1]}"}))
            client = openai.OpenAI(base_url=f"{address}/v1", api_key="open sesame", max_retries=0)
            small, large = asked_about(8), asked_about(4000)
            options = {"model": "mine", "messages": small, "max_tokens": 100, "modalities": ["text", "image"]}
            stream = client.chat.completions.create(**options, temperature=1.0, stream=True)
            chunks = [next(stream)]
            with ThreadPoolExecutor() as threads:
                options |= {"messages": large, "modalities": ["text"]}
                decoding = threads.submit(client.chat.completions.create, **options)
                wait_for(lambda: any(tmp_path.glob(f"{PREFIX}*/*/1.png")), pause=0.002)
                children = psutil.Process(server.pid).children(recursive=True)
                os.killpg(server.pid, signal.SIGTERM)
                chunks += stream
                assert decoding.result().choices[0].finish_reason
            assert chunks[-1].choices[0].finish_reason and any(hasattr(c.choices[0].delta, "images") for c in chunks)
            with pytest.raises(openai.APIConnectionError):
                openai.OpenAI(base_url=f"{address}/v1", api_key="open sesame", max_retries=0).models.list()
            assert server.wait(30) == 0
            rest.join()
            assert children, "a decoder"
            wait_for(lambda: not any(lives(child) for child in children))
            assert not list(tmp_path.glob("isthmus-*"))
        finally:
            server.kill()


def asked_about(size: int) -> list[Any]:
    """A question about a square picture, which takes a part of a second to decode if it is large."""
    file = io.BytesIO()
    Image.new("RGB", (size, size)).save(file, "PNG", compress_level=1)
    picture = {"url": f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"}
    return [{"role": "user", "content": [{"type": "image_url", "image_url": picture}]}]


def lives(process: psutil.Process) -> bool:
    """Whether it runs; one that has ended may wait for whoever reaps it."""
    with suppress(psutil.NoSuchProcess):
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    return False


def test_a_folder_whose_name_has_a_sign_of_equality_is_taken_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("lr=1").mkdir()
    assert named_folders(["lr=1"], None) == {"isthmus": Path("lr=1")}
    assert named_folders(["lr=1"], "mine") == {"mine": Path("lr=1")}
    assert named_folders(["mine=lr=1"], None) == {"mine": Path("lr=1")}
    with pytest.raises(ValueError, match=r"found 'mine' beside --model other=lr=1; .* Fix: leave --name out"):
        named_folders(["other=lr=1"], "mine")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--slots", "0"], "serve slots: found 0"),
        (["--resident_generators", "0"], "resident_generators: found 0; expected at least 1"),
        (["--resident_generators", "1", "--device", "cpu"], "found 1 with the device cpu; expected a GPU"),
        (["--api_keys", "gone.txt"], "gone.txt: can't be read"),
        (["--name", "mine", "--model", "other=nowhere"], "serve name: found 'mine' beside --model"),
        (["--model", "nowhere"], "among several; expected each as NAME=FOLDER"),
    ],
)
def test_what_serve_refuses(
    options: list[str], expected: str, bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["serve", "--model", str(bundle), *options])
    assert ended.value.code == 2 and expected in capsys.readouterr().err
