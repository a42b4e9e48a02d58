"""The official client: words to a sound in each format, and a recording to words."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import av
import numpy as np
import openai
import pytest

from isthmus.inference.pipeline import Pipeline
from isthmus.modalities import Modality
from isthmus.serving.provenance import Provenance
from isthmus.serving.sounds import SOUNDS, SPEECH_RATE, encoded
from isthmus.types import Media


def opened_sound(data: bytes) -> tuple[str, int, float, str]:
    """Codec, rate, seconds and comment of a file."""
    with av.open(io.BytesIO(data)) as file:
        stream = file.streams.audio[0]
        comment = {**file.metadata, **stream.metadata}.get("comment", "")
        samples = sum(frame.samples for frame in file.decode(stream))
        return stream.codec_context.name, stream.rate or 0, samples / (stream.rate or 1), comment


def speak(client: openai.OpenAI, words: str = "a seven", **options: Any) -> Any:
    return client.audio.speech.create(
        **{"model": "tiny", "input": words, "voice": "alloy", "extra_body": {"seed": 3}} | options
    )


def test_words_become_a_sound(client: openai.OpenAI, opened: Pipeline) -> None:
    made = speak(client, response_format="wav")
    assert made.response.headers["content-type"] == "audio/wav"
    codec, rate, seconds, comment = opened_sound(made.read())
    (reply,) = opened(["a seven"], [["audio"]], seed=3)
    (medium,) = reply.media()
    assert medium.rate is not None and (codec, rate) == ("pcm_s16le", medium.rate)
    assert seconds == pytest.approx(len(medium.array) / medium.rate) and "model tiny, seed 3" in comment
    default = speak(client)
    assert default.response.headers["content-type"] == "audio/mpeg" and opened_sound(default.read())[0].startswith(
        "mp3"
    )
    slow = speak(client, instructions="slowly", response_format="pcm")
    assert len(slow.read()) == pytest.approx(seconds * SPEECH_RATE * 2, rel=0.01)


@pytest.mark.parametrize("form", sorted(SOUNDS.keys() - {"pcm"}))
def test_formats(form: str) -> None:
    tone = np.sin(np.arange(8000) / 5).astype(np.float32) / 2
    medium = Media(Modality.AUDIO, tone, rate=16_000.0)
    codec, rate, seconds, comment = opened_sound(encoded(medium, form, Provenance("tiny", 7)))
    assert codec.startswith(SOUNDS[form].codec.removeprefix("lib").removesuffix("lame"))
    assert seconds == pytest.approx(0.5, abs=0.1) and rate in (16_000, 24_000, 48_000)
    assert ("seed 7" in comment) == (form != "aac"), "a bare stream of AAC holds no words"
    assert not opened_sound(encoded(medium, form))[3]


@pytest.mark.parametrize(
    ("options", "param", "expected"),
    [
        ({"words": ""}, "input", "at least 1 character"),
        ({"words": "word " * 1000}, None, "in its last turn alone"),
        ({"speed": 2.0}, "speed", "less than or equal to 1"),
        ({"response_format": "aiff"}, "response_format", "'mp3'"),
        ({"stream_format": "sse"}, "stream_format", "input should be 'audio'"),
    ],
)
def test_what_speech_refuses(client: openai.OpenAI, options: Any, param: str | None, expected: str) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        speak(client, **options)
    error = refused.value
    assert expected in error.message and "messages" not in error.message, error.message
    assert param is None or (isinstance(error.body, dict) and error.body["param"] == param)


def test_a_recording_becomes_words(client: openai.OpenAI, opened: Pipeline, files: dict[str, Path]) -> None:
    def transcribe(**options: Any) -> Any:
        given = {"model": "tiny", "file": files["audio"].open("rb"), "extra_body": {"seed": 3}}
        return client.audio.transcriptions.create(**given | options)

    done = transcribe(temperature=1.0)
    content = [{"type": "audio", "audio": str(files["audio"])}, {"type": "text", "text": "What is said?"}]
    assert done.text and done.usage.total_tokens == done.usage.input_tokens + done.usage.output_tokens
    plain = transcribe()
    (reply,) = opened([[{"role": "user", "content": content}]], seed=3)
    assert plain.text == reply.text or reply.media(), "the pipeline's own words, where these are all of its answer"
    assert transcribe(response_format="text").rstrip("\n") == plain.text
    assert transcribe(prompt="is it?", language="en").usage.input_tokens != plain.usage.input_tokens
    events = list(transcribe(stream=True))
    assert events[-1].type == "transcript.text.done" and events[-1].text == plain.text
    assert "".join(event.delta for event in events[:-1]) == plain.text
    assert events[-1].usage.total_tokens == plain.usage.total_tokens


def test_what_transcription_refuses(client: openai.OpenAI, files: dict[str, Path]) -> None:
    def refused(match: str, **options: Any) -> None:
        given: Any = {"model": "tiny", "file": files["audio"].open("rb")} | options
        with pytest.raises(openai.BadRequestError, match=match) as error:
            client.audio.transcriptions.create(**given)
        assert "messages" not in error.value.message

    refused("response_format: input should be 'json' or 'text'", response_format="srt")
    refused("file: found no readable", file=("a.wav", b"RIFF"))
    refused("file: found a file with the ending", file=("a.txt", b"hello"))
    refused("timestamp_granularities: this server doesn't know", timestamp_granularities=["word"])
    with pytest.raises(openai.NotFoundError):
        client.audio.transcriptions.create(model="other", file=files["audio"].open("rb"))
