"""The judges' networks as an extractor: digits of every modality have their own class."""

from __future__ import annotations

import numpy as np
import pytest

from isthmus.evaluation.metrics.base import Processes
from isthmus.evaluation.metrics.distances import InceptionScore
from isthmus.evaluation.metrics.distances.extraction import Extraction
from isthmus.evaluation.metrics.distances.media import source_media
from isthmus.pocket.judges.features import DigitFeatures
from isthmus.pocket.references import References
from isthmus.types import Modality


@pytest.mark.parametrize("modality", ["image", "video", "audio", "points"])
def test_digits_are_classes(modality: str) -> None:
    source = References(size=20, modalities=[modality])
    held = source_media(source, Modality(modality))
    found, _ = Extraction(DigitFeatures()).features(held, Processes(), "")
    assert found.logits is not None
    digits = [source[index].details["expect"]["digit"] for index in range(20)]
    assert np.mean(found.logits[:, :10].argmax(1) == digits) > 0.9
    assert InceptionScore(splits=1).measure(found, found)["is"].value > 2.5
