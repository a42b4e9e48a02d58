"""What tasks of lmms-eval give -> the chat-content convention."""

from __future__ import annotations

import base64
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from isthmus.data.conversations.schema import MediumItem, parse_conversation
from isthmus.data.errors import DataError
from isthmus.data.media.files import read_media
from isthmus.data.media.stored import StoredFile
from isthmus.evaluation.lmms.contents import read_medium, read_messages, user_message
from isthmus.types import Modality

HERE = "a task, document 3"


def test_messages_keep_their_order_and_their_roles() -> None:
    picture = Image.new("RGB", (4, 4))
    asked = [
        {"role": "system", "content": [{"type": "text", "text": "be short"}]},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "A."},
                {"type": "image", "url": picture},
                {"type": "text", "text": "B."},
                {"type": "audio", "url": "b.wav"},
                {"type": "video", "url": "file:///films/c%20d.mp4"},
            ],
        },
    ]
    system, user = read_messages(asked, HERE)
    assert system == {"role": "system", "content": [{"type": "text", "text": "be short"}]}
    assert user["content"] == [
        {"type": "text", "text": "A."},
        {"type": "image", "image": picture},
        {"type": "text", "text": "B."},
        {"type": "audio", "audio": Path("b.wav")},
        {"type": "video", "video": Path("/films/c d.mp4")},
    ]


@pytest.mark.parametrize(
    ("value", "kind"), [("a.JPG", "image"), ("a.flac", "audio"), ("a.mp4", "video"), ("a", "video")]
)
def test_a_file_without_a_name_is_known_by_its_ending(value: str, kind: str) -> None:
    """As lmms-eval's own reading has it."""
    assert user_message([value], "what is it?", HERE)[0]["content"][0] == {"type": kind, kind: Path(value)}


def test_bytes_are_read_as_the_file_that_they_are(repository: Path) -> None:
    path = repository / "examples" / "three.png"
    expected = read_media(path, Modality.IMAGE).array
    encoded = "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()
    for value in ({"bytes": path.read_bytes(), "path": "three.png"}, encoded):
        item = read_medium(value, None, HERE)
        assert item["type"] == "image" and isinstance(item["image"], StoredFile)
        assert np.array_equal(read_media(item["image"], Modality.IMAGE).array, expected)


@pytest.mark.parametrize("channels", [None, 0, 1])
def test_samples_are_sound_whatever_the_task_calls_them(channels: int | None) -> None:
    """lmms-eval names every mapping a film; channels stand first or last."""
    mono = np.linspace(-0.5, 0.5, 800)
    array = mono if channels is None else np.stack([mono + 0.1, mono - 0.1], channels)
    item = read_medium({"array": array, "sampling_rate": 16000, "path": None}, "video", HERE)
    assert item["type"] == "audio" and item["rate"] == 16000
    assert item["audio"].dtype == np.float32 and np.allclose(item["audio"], mono, atol=1e-6)
    (message,) = parse_conversation({"messages": [{"role": "user", "content": [item]}]}, HERE).messages
    assert isinstance(message.content[0], MediumItem)


def test_a_decoder_of_datasets_is_sound() -> None:
    """torchcodec's, with that one method, which a column of sounds gives as of datasets 4."""
    decoded = SimpleNamespace(data=torch.full((2, 80), 0.25), sample_rate=8000)
    item = read_medium(SimpleNamespace(get_all_samples=lambda: decoded), None, HERE)
    assert item["type"] == "audio" and item["rate"] == 8000 and item["audio"].tolist() == [0.25] * 80


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("https://example.org/a.png", "nothing is fetched"),
        ({"type": "video", "path": "a.mp4", "video_start": 1.0, "video_end": 2.0}, "a whole film"),
        ({"height": 3}, "'bytes', 'path'"),
        ("data:image/png;base64,??", "base64"),
        (3.0, "found float"),
    ],
)
def test_what_cant_be_read_says_the_task_and_the_document(value: Any, says: str) -> None:
    with pytest.raises(DataError, match=says) as raised:
        read_medium(value, None, HERE)
    assert HERE in str(raised.value) and "Fix: " in str(raised.value)
