"""The official client: words to a sound in each format, and a recording to words."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import openai
import pytest

from isthmus import __version__
from isthmus.data.conversations.schema import parse_conversation
from isthmus.data.media.audio.files import resample
from isthmus.data.media.files import read_media
from isthmus.inference.pipeline import Pipeline
from isthmus.modalities import Modality
from isthmus.serving.provenance import Provenance
from isthmus.serving.sounds import SOUNDS, SPEECH_RATE, encoded
from isthmus.types import Media

CODECS = {
    "wav": ("pcm_s16le", 16_000),
    "flac": ("flac", 16_000),
    "mp3": ("mp3float", 24_000),
    "opus": ("opus", 48_000),
    "aac": ("aac", 24_000),
}
"""Format -> FFmpeg's decoder of a sound that was made at 16 kHz, and the rate to which it decodes."""
TONE = 440.0


def loudest(medium: Media) -> float:
    """The loudest frequency."""
    assert medium.rate is not None
    return float(np.abs(np.fft.rfft(medium.array)).argmax() * medium.rate / len(medium.array))


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
    assert default.response.headers["content-type"] == "audio/mpeg"
    codec, rate, longer, comment = opened_sound(default.read())
    assert (codec, rate) == ("mp3float", SPEECH_RATE) and "model tiny, seed 3" in comment
    assert seconds <= longer <= seconds + 3 * 1152 / SPEECH_RATE, "the format pads with frames of 1,152 samples"
    bare = speak(client, response_format="pcm").read()
    wanted = (resample(medium, SPEECH_RATE).array * 32767).round()
    found = np.frombuffer(bare, "<i2").astype(float)
    np.testing.assert_allclose(found, wanted, atol=1, err_msg="the pipeline's own sound, without a header")
    slow = speak(client, instructions="slowly", response_format="pcm").read()
    assert len(slow) == len(bare) and slow != bare, "instructions are words that the model reads"


@pytest.mark.parametrize("form", sorted(SOUNDS.keys() - {"pcm"}))
def test_formats(form: str, tmp_path: Path) -> None:
    tone = np.sin(np.arange(8000) * (2 * np.pi * TONE / 16_000)).astype(np.float32) / 2
    medium = Media(Modality.AUDIO, tone, rate=16_000.0)
    file = encoded(medium, form, Provenance("tiny", 7))
    codec, rate, seconds, comment = opened_sound(file)
    # Opus is always decoded at 48 kHz; the lossy formats pad the ends with at most three frames of 1,152 samples.
    assert (codec, rate) == CODECS[form]
    assert seconds == pytest.approx(0.5, abs=1e-6 if form in ("wav", "flac") else 3 * 1152 / 24_000) and seconds >= 0.5
    assert comment == f"Made by isthmus {__version__}, model tiny, seed 7"
    assert opened_sound(encoded(medium, form))[3] == ""
    (tmp_path / f"made.{form}").write_bytes(file)
    read = read_media(tmp_path / f"made.{form}", Modality.AUDIO)
    assert loudest(read) == pytest.approx(TONE, abs=2), "our own reader hears the tone in it"


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

    def told(words: str, temperature: float = 0.0) -> tuple[str, dict[str, Any]]:
        """The model's own words about the recording, and tokens."""
        content = [{"type": "audio", "audio": str(files["audio"])}, {"type": "text", "text": words}]
        sampling = replace(opened.sampling, seed=3, temperature=temperature)
        asked = parse_conversation({"messages": [{"role": "user", "content": content}]}, "asked")
        batch = opened.model.prompts([asked], sampling)
        (reply,) = opened.model.answer(batch, sampling, allowed=[])
        tokens = {"input_tokens": int(batch.mask.sum()), "output_tokens": reply.tokens}
        return reply.text, {"type": "tokens", **tokens, "total_tokens": sum(tokens.values())}

    def heard(done: Any) -> tuple[str, dict[str, Any]]:
        return done.text, done.usage.model_dump(exclude_none=True)

    plain = transcribe()
    assert heard(plain) == told("What is it?") and plain.text
    assert heard(transcribe(temperature=1.0)) == told("What is it?", 1.0) != told("What is it?")
    assert heard(transcribe(prompt="is it?", language="en")) == told("is it? (en)") != told("is it?")
    assert transcribe(response_format="text").rstrip("\n") == plain.text
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
