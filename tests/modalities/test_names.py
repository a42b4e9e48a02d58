"""A modality is one object a name, in every process, and everything about it stands in its specification."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from isthmus.modalities import DEPTH, GRID, IMU, MEDIA, SERIES, THERMAL, Modality, Spec, is_medium, known_media, names
from isthmus.types import Media

MODULE = """
from isthmus.modalities import GRID, Modality, Spec

SMELL = Modality.define(Spec("smell", GRID, word="smell", signals=2))
"""


def test_of_a_name_there_is_one_object() -> None:
    assert Modality("image") is Modality.IMAGE and Modality(DEPTH) is DEPTH
    assert {"image": 1}[Modality.IMAGE] == 1 and f"{THERMAL}" == "thermal" and str(IMU) == "imu"
    for modality in (Modality.TEXT, *known_media()):
        assert pickle.loads(pickle.dumps(modality)) is modality
        assert copy.deepcopy(modality) is modality and copy.copy(modality) is modality
    assert known_media() == (*MEDIA, DEPTH, THERMAL, IMU)


@pytest.mark.parametrize("name", ["smell", "", "Image", "image ", None, 3])
def test_an_unknown_name_says_what_is_known(name: object) -> None:
    assert not is_medium(name) and not is_medium("text")
    with pytest.raises(ValueError, match=r"expected one of text, image, video, audio, points, depth.*Fix: rename it"):
        Modality(name)  # type: ignore[arg-type]


def test_text_has_no_specification() -> None:
    with pytest.raises(ValueError, match="found text; expected a medium: image, video"):
        Modality.TEXT.spec  # noqa: B018


def test_a_pickle_brings_the_module_that_defines_it(tmp_path: Path) -> None:
    """As a data worker meets it under spawn: the modality is named before anything of its module is."""
    (tmp_path / "noses.py").write_text(MODULE, encoding="utf-8")
    writes = "import pickle, sys, noses; sys.stdout.buffer.write(pickle.dumps({noses.SMELL: 1}))"
    reads = "import pickle, sys; (m,) = pickle.load(sys.stdin.buffer); print(m, m.spec.signals, 'noses' in sys.modules)"
    path = {"PYTHONPATH": f"{tmp_path}:{Path(names.__file__).parents[2]}"}
    written = subprocess.run([sys.executable, "-c", writes], env=path, capture_output=True, check=True).stdout
    read = subprocess.run([sys.executable, "-c", reads], env=path, input=written, capture_output=True, check=True)
    assert read.stdout.decode().split() == ["smell", "2", "True"] and len(written) < 150


@pytest.mark.parametrize("name", ["text", "rate", "Touch", "a-b", "1d", ""])
def test_names_that_would_mean_something_else_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="expected a small letter and more of them"):
        Spec(name, GRID, word="map")


def test_a_second_definition_elsewhere_is_refused() -> None:
    with pytest.raises(ValueError, match=r"depth: found a second definition in .*; isthmus.modalities.shipped"):
        Modality.define(Spec("depth", GRID, word="map"))


def test_a_specification_takes_from_its_kind_what_it_does_not_say() -> None:
    spec = Spec("warmth", SERIES, word="course of warmth", read=read_nothing)
    assert spec.function("read") is read_nothing and spec.function("write").__name__ == "series"
    assert spec.file_endings == (".npz",) and spec.exact_ending == ".npz" and spec.listed == "warmths"
    assert spec.function("doubts")(None, None, "") == () and spec.article == "a" and IMU.spec.article == "an"


def read_nothing(path: Path) -> None:
    """A reader of one's own."""


@pytest.mark.parametrize(
    ("modality", "array", "rate"),
    [
        (DEPTH, np.full((2, 3), np.nan, np.float32), None),
        (DEPTH, -np.ones((2, 3), np.float32), None),
        (THERMAL, np.full((2, 3), 1.5, np.float32), None),
        (THERMAL, np.zeros((2, 3), np.uint8), None),
        (IMU, np.zeros((5, 9), np.float32), 100.0),
        (IMU, np.zeros((6, 9), np.float32), None),
    ],
)
def test_arrays_are_checked_by_the_specification(modality: Modality, array: np.ndarray, rate: float | None) -> None:
    with pytest.raises(ValueError, match=rf"for {modality}; expected a non-empty \("):
        Media(modality, array, rate)
