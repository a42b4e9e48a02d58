"""An answer gives its media, and its reference's, as they were stored."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from isthmus.data.conversations.schema import MediumItem, Message, TextItem
from isthmus.evaluation.predictions.answered import Answered, words_of
from isthmus.types import Media, Modality


def test_media_of_reply_and_reference_are_read(tmp_path: Path) -> None:
    cloud = np.linspace(0, 1, 12, dtype=np.float32).reshape(4, 3)
    made, real = tmp_path / "made.npy", tmp_path / "real.npy"
    np.save(made, cloud)
    np.save(real, cloud + 1)
    in_memory = Media(Modality.POINTS, cloud + 2)
    content = (
        TextItem(" a sphere: "),
        MediumItem(Modality.POINTS, real, "a sphere"),
        MediumItem(Modality.POINTS, None, "one that has no file"),
        MediumItem(Modality.POINTS, in_memory, "another"),
        TextItem("done"),
    )
    expected = Message("assistant", content)
    answered = Answered("shapes", 3, "shapes/3", (), expected, {}, "here", [(Modality.POINTS, made)])
    assert np.array_equal(answered.media(Modality.POINTS)[0].array, cloud)
    assert answered.media(Modality.IMAGE) == []
    references = [media.array for media in answered.expected_media(Modality.POINTS)]
    assert np.array_equal(references, [cloud + 1, cloud + 2])
    assert words_of(expected) == "a sphere: done"


def test_a_conversation_without_reference_has_no_expected_media() -> None:
    assert Answered("shapes", 0, "0", (), None, {}, "").expected_media(Modality.IMAGE) == []
