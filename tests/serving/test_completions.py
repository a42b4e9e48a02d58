"""The official client against the real server on loopback: chat in every modality, streams, errors, and leaving."""

from __future__ import annotations

import base64
import json
import socket
import threading
from pathlib import Path
from typing import Any

import httpx2 as httpx
import numpy as np
import openai
import pytest
from served import wait_for

from isthmus.data.media.files import read_media
from isthmus.data.media.stored import StoredFile
from isthmus.inference.pipeline import Pipeline
from isthmus.types import Media, Modality

MIMES = {"image": "image/png", "video": "video/mp4", "points": "application/x-npy", "audio": "audio/wav"}


def uri(path: Path, modality: str) -> str:
    return f"data:{MIMES[modality]};base64,{base64.b64encode(path.read_bytes()).decode()}"


def part(path: Path, modality: str) -> dict[str, Any]:
    if modality == "audio":
        data = base64.b64encode(path.read_bytes()).decode()
        return {"type": "input_audio", "input_audio": {"data": data, "format": "wav"}}
    return {"type": f"{modality}_url", f"{modality}_url": {"url": uri(path, modality)}}


def medium(url: str, modality: str) -> Media:
    head, _, data = url.partition(";base64,")
    assert head == f"data:{MIMES[modality]}"
    return read_media(StoredFile(f"made.{head[-3:]}", base64.b64decode(data)), Modality(modality))


def ask(client: openai.OpenAI, content: Any = "what is it?", **options: Any) -> Any:
    messages = [{"role": "user", "content": content}]
    return client.chat.completions.create(**{"model": "tiny", "messages": messages, "max_tokens": 6} | options)


def test_every_modality_in_and_out(client: openai.OpenAI, files: dict[str, Path]) -> None:
    content = [{"type": "text", "text": "what are"}, *(part(path, modality) for modality, path in files.items())]
    modalities = ["text", "image", "audio", "video"]
    done = ask(client, content, modalities=modalities, audio={"voice": "any", "format": "wav"}, seed=3)
    (choice,) = done.choices
    assert choice.message.role == "assistant" and isinstance(choice.message.content, str)
    assert choice.finish_reason in ("stop", "length")
    (image,) = choice.message.images
    assert image["type"] == "image_url" and medium(image["image_url"]["url"], "image").array.shape == (16, 16, 3)
    (video,) = choice.message.videos
    assert len(medium(video["video_url"]["url"], "video").array) == 8
    sound = StoredFile("made.wav", base64.b64decode(choice.message.audio.data))
    assert read_media(sound, Modality.AUDIO).array.size > 0
    assert done.usage.total_tokens == done.usage.prompt_tokens + done.usage.completion_tokens > 6


def test_the_answer_is_that_of_the_pipeline(client: openai.OpenAI, opened: Pipeline, files: dict[str, Path]) -> None:
    done = ask(client, [{"type": "text", "text": "draw"}, part(files["image"], "image")], modalities=["image"], seed=5)
    content = [{"type": "text", "text": "draw"}, {"type": "image", "image": str(files["image"])}]
    (reply,) = opened([[{"role": "user", "content": content}]], [["image"]], seed=5)
    assert done.choices[0].message.content == reply.text
    made = medium(done.choices[0].message.images[0]["image_url"]["url"], "image").array
    assert np.abs(made.astype(int) - reply.media(Modality.IMAGE)[0].array.astype(int)).max() <= 2


def test_a_stream_says_the_same_in_pieces(client: openai.OpenAI) -> None:
    options: dict[str, Any] = {"modalities": ["text", "image"], "temperature": 1.0, "seed": 2, "max_tokens": 12}
    whole = ask(client, **options)
    chunks = list(ask(client, stream=True, stream_options={"include_usage": True}, **options))
    deltas = [chunk.choices[0].delta for chunk in chunks if chunk.choices]
    said = "".join(delta.content or "" for delta in deltas)
    assert said == whole.choices[0].message.content and sum(bool(delta.content) for delta in deltas) > 2
    (images,) = [delta.images for delta in deltas if getattr(delta, "images", None)]
    assert images == whole.choices[0].message.images
    assert chunks[-2].choices[0].finish_reason == whole.choices[0].finish_reason
    assert chunks[-1].usage == whole.usage and len({chunk.id for chunk in chunks}) == 1


def test_an_answer_goes_back_in_as_it_came(client: openai.OpenAI) -> None:
    first = ask(client, "draw", modalities=["image", "audio"]).choices[0].message
    asked = {"role": "user", "content": "draw"}
    turns = [
        {"role": "developer", "content": "be brief"},
        asked,
        first.model_dump(),
        {"role": "user", "content": "and?"},
    ]
    again = ask(client, messages=turns, modalities=["text"])
    assert isinstance(again.choices[0].message.content, str)
    assert not hasattr(again.choices[0].message, "images"), "text alone was allowed"
    words = ask(client, messages=[turns[0], asked, {"role": "assistant", "content": first.content or "it"}, turns[3]])
    assert again.usage.prompt_tokens > words.usage.prompt_tokens, "its media are read as signal tokens"


def test_the_model_is_listed(client: openai.OpenAI) -> None:
    (model,) = client.models.list().data
    assert model.id == "tiny" and client.models.retrieve("tiny").id == "tiny"
    assert model.modalities["output"] == ["text", "image", "video", "audio"]
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("other")


IMAGE = "data:image/png;base64,"


@pytest.mark.parametrize(
    ("options", "status", "param", "expected"),
    [
        ({"model": "other"}, 404, "model", "this server has 'tiny'"),
        ({"messages": []}, 400, "messages", "at least 1 item"),
        ({"content": []}, 400, None, "a list of at least one item"),
        ({"max_tokens": 401}, 400, "max_tokens", "found 401; expected at most 400"),
        ({"temperature": 3}, 400, "temperature", "less than or equal to 2"),
        ({"n": 2}, 400, "n", "input should be 1"),
        ({"logprobs": True}, 400, "logprobs", "doesn't know the parameter"),
        ({"modalities": ["smell"]}, 400, "modalities", "makes text, image, video, audio"),
        ({"modalities": ["points"]}, 400, "modalities", "found 'points'"),
        ({"extra_body": {"num_inference_steps": 5}}, 400, "num_inference_steps", "at most 4"),
        ({"content": [{"type": "text", "text": "a"}] * 12}, 400, "messages", "at most 12 in all"),
        ({"content": "word " * 1000}, 400, None, "in its last turn alone"),
        ({"content": [{"type": "smell_url", "smell_url": {}}]}, 400, "messages[0].content[0]", "'smell_url'"),
        ({"content": [{"type": "input_audio", "input_audio": {"data": "", "format": "aiff"}}]}, 400, None, "wav, mp3"),
        ({"url": "https://example.org/a.png"}, 400, None, "found 'https'; expected a data URI"),
        ({"url": "http://169.254.169.254/latest"}, 400, None, "fetches no addresses"),
        ({"url": "file:///etc/passwd"}, 400, None, "found 'file'"),
        ({"url": "data:text/html;base64,aaaa"}, 400, None, "found text/html"),
        ({"url": IMAGE + "%%%"}, 400, None, "found no base64"),
        ({"url": IMAGE + "aaaa"}, 400, "messages[0].content[0].image_url", "image_url: found no readable image"),
    ],
)
def test_what_is_refused(client: openai.OpenAI, options: Any, status: int, param: str | None, expected: str) -> None:
    if "url" in options:
        options = {"content": [{"type": "image_url", "image_url": {"url": options["url"]}}]}
    with pytest.raises(openai.APIStatusError) as refused:
        ask(client, **options)
    error = refused.value
    assert error.status_code == status and expected in error.message, error.message
    assert isinstance(error.body, dict) and set(error.body) == {"message", "type", "param", "code"}
    assert param is None or error.body["param"] == param
    assert "/tmp" not in error.message and "site-packages" not in error.message


def test_limits_of_media(client: openai.OpenAI, tmp_path: Path) -> None:
    from PIL import Image

    Image.new("RGB", (5000, 4000)).save(tmp_path / "wide.png")
    with pytest.raises(openai.BadRequestError, match="pixels; expected at most"):
        ask(client, [part(tmp_path / "wide.png", "image")])
    np.save(tmp_path / "shape.npy", np.zeros((4, 3)).astype(object), allow_pickle=True)
    with pytest.raises(openai.BadRequestError):
        ask(client, [part(tmp_path / "shape.npy", "points")])


def test_a_client_that_leaves_frees_its_slot(client: openai.OpenAI, address: str) -> None:
    """Two slots and two places to wait: four clients that leave, mid-stream or before an answer, must free them all."""
    for _ in range(2):
        for options in ({"stream": True}, {}):
            body = {"model": "tiny", "messages": [{"role": "user", "content": "go"}], "max_tokens": 400, **options}
            text = json.dumps(body | {"temperature": 2.0}).encode()
            host, port = address.removeprefix("http://").split(":")
            with socket.create_connection((host, int(port))) as left:
                head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
                left.sendall(f"{head}Content-Length: {len(text)}\r\n\r\n".encode() + text)
                if options:
                    left.recv(10)
    wait_for(lambda: jobs(address) == 0)
    assert ask(client).choices


def test_a_full_queue_says_when_to_come_back(serving: Any, opened: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    from isthmus.serving.limits import ServingLimits

    held, begin = threading.Event(), opened.model.begin
    monkeypatch.setattr(opened.model, "begin", lambda *given: (held.wait(30), begin(*given))[1])
    with serving(limits=ServingLimits(slots=1, queue=1)) as address:
        with openai.OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0) as client:
            first = [threading.Thread(target=ask, args=(client,)) for _ in range(2)]
            for thread in first:
                thread.start()
            wait_for(lambda: refused(client))
            held.set()
            for thread in first:
                thread.join()
            assert ask(client).choices


def refused(client: openai.OpenAI) -> bool:
    try:
        answer = client.with_options(timeout=0.5)
        ask(answer)
    except openai.RateLimitError as error:
        assert int(error.response.headers["retry-after"]) >= 1
        return True
    except openai.APITimeoutError:
        return False
    return False


def jobs(address: str) -> float:
    lines = httpx.get(f"{address}/metrics").text.splitlines()
    return sum(float(line.split()[1]) for line in lines if line.startswith("isthmus_jobs{"))
