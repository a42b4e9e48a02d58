"""Distances over stored answers: names, references, protocol, kept features, and two processes that agree."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as distributed
from stored_answers import Shown, answer, clip, picture, sound
from torch import multiprocessing

from isthmus.data.conversations.schema import MediumItem
from isthmus.encoders import ImageBind
from isthmus.evaluation.metrics.base import Figure, Processes
from isthmus.evaluation.metrics.distances import (
    ClassDivergence,
    Distances,
    Frechet,
    InceptionScore,
    PolynomialKernel,
    PrecisionRecall,
)
from isthmus.evaluation.metrics.distances.frechet import frechet_distance
from isthmus.evaluation.metrics.distances.media import pairs_of
from isthmus.evaluation.metrics.extractors import EncoderFeatures
from isthmus.evaluation.predictions.answered import Answered
from isthmus.types import Media, Modality

ONE = Processes()


@pytest.fixture(scope="module")
def extractor(tiny_encoders: dict[str, Path]) -> EncoderFeatures:
    return EncoderFeatures(ImageBind(tiny_encoders["imagebind"], modalities=["image", "audio"]), chunk=5)


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> list[Answered]:
    """Eleven replies with a picture and a reference each, and one that has words alone."""
    folder = tmp_path_factory.mktemp("answers")
    found = [answer(folder, number, [picture(number)], [picture(100 + number)]) for number in range(11)]
    return [*found, answer(folder, 11, [], [picture(111)])]


def values_of(extractor: EncoderFeatures, media: list[Media]) -> np.ndarray[Any, Any]:
    return extractor.extract(media)[0].astype(np.float64)


def plain(figures: Mapping[str, Figure]) -> dict[str, Any]:
    return {name: asdict(figure) for name, figure in figures.items()}


def test_usual_distances_of_replies_and_their_references(extractor: EncoderFeatures, answers: list[Answered]) -> None:
    found = Distances("image", extractor).measure(answers, ONE)
    names = "made fid kid precision recall density coverage diversity".split()
    assert list(found) == [f"image/{name}" for name in names]
    made = values_of(extractor, [picture(number) for number in range(11)])
    real = values_of(extractor, [picture(100 + number) for number in range(12)])
    assert found["image/fid"].value == pytest.approx(frechet_distance(made, real), rel=1e-4)
    assert found["image/fid"].n == 11
    made_share = found["image/made"]
    assert (made_share.value, made_share.n) == (pytest.approx(11 / 12), 12)
    assert made_share.scores is not None and made_share.scores["set/11"] == 0.0
    protocol = found["image/kid"].protocol
    assert protocol["extractor"] == "ImageBind" and len(protocol["weights"]) == 32
    assert (protocol["reference"], protocol["reference_size"], protocol["subset_size"]) == ("expected", 12, 1000)


@pytest.mark.parametrize(("modality", "draw", "name"), [("audio", sound, "fad"), ("video", clip, "fvd")])
def test_sound_and_videos_are_a_plain_recomputation(
    tiny_encoders: dict[str, Path], tmp_path: Path, modality: str, draw: Any, name: str
) -> None:
    """From the encoder's tokens, by numpy and scipy alone."""
    encoder = ImageBind(tiny_encoders["imagebind"])
    kind = Modality(modality)
    own = [answer(tmp_path, number, [draw(number)], [draw(50 + number)]) for number in range(12)]
    means, covariances = [], []
    for media in ([one.media(kind)[0] for one in own], [one.expected_media(kind)[0] for one in own]):
        inputs = [next(iter(encoder.preprocess(medium).items())) for medium in media]
        tokens = encoder(kind, {inputs[0][0]: torch.stack([value for _, value in inputs])}).tokens[:, 0]
        means.append(tokens.double().numpy().mean(0))
        covariances.append(np.cov(tokens.double().numpy(), rowvar=False))
    roots = np.sqrt(np.linalg.eigvals(covariances[0] @ covariances[1]).astype(complex)).real.sum()
    plain = ((means[0] - means[1]) ** 2).sum() + np.trace(covariances[0] + covariances[1]) - 2 * roots
    found = Distances(modality, EncoderFeatures(encoder)).measure(own, ONE)
    assert found[f"{modality}/{name}"].value == pytest.approx(float(plain), rel=1e-3)
    assert found[f"{modality}/made"].value == 1.0


def test_a_named_source_stands_for_real_media(extractor: EncoderFeatures, answers: list[Answered]) -> None:
    source = Shown([*(picture(200 + number) for number in range(6)), sound(0)])
    own = Distances("image", extractor, [Frechet("fid")], source, prefix="bind_")
    found = own.measure(answers, ONE)
    assert list(found) == ["image/bind_made", "image/bind_fid"]
    real = values_of(extractor, [picture(200 + number) for number in range(6)])
    made = values_of(extractor, [picture(number) for number in range(11)])
    assert found["image/bind_fid"].value == pytest.approx(frechet_distance(made, real), rel=1e-4)
    protocol = found["image/bind_fid"].protocol
    assert (protocol["reference"], protocol["reference_size"]) == ("shown", 6)
    others = Distances("image", extractor, [Frechet("fid")], Shown([picture(300 + n) for n in range(6)]))
    contents = others.measure(answers, ONE)["image/fid"].protocol["reference_contents"]
    assert contents != protocol["reference_contents"]


def test_kept_features_are_those_that_were_computed(
    extractor: EncoderFeatures, answers: list[Answered], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = Distances("image", extractor, cache=tmp_path).measure(answers, ONE)
    assert plain(first) == plain(Distances("image", extractor).measure(answers, ONE))

    def never(media: Any) -> Any:
        raise AssertionError("a frozen network's features are computed once")

    monkeypatch.setattr(extractor, "extract", never)
    assert plain(Distances("image", extractor, cache=tmp_path).measure(answers, ONE)) == plain(first)
    with pytest.raises(AssertionError, match="computed once"):  # other media
        Distances("image", extractor, reference=Shown([picture(7)] * 6), cache=tmp_path).measure(answers, ONE)


def test_the_trainer_s_precision_has_no_say(extractor: EncoderFeatures, answers: list[Answered]) -> None:
    own = Distances("image", extractor, [Frechet("fid")])
    with torch.autocast("cpu", torch.bfloat16):
        mixed = own.measure(answers, ONE)
    assert plain(mixed) == plain(own.measure(answers, ONE))


def test_a_source_without_the_modality_has_no_figures(extractor: EncoderFeatures, answers: list[Answered]) -> None:
    assert Distances("audio", extractor).measure(answers, ONE) == {}


def test_a_model_that_makes_nothing_is_told(
    extractor: EncoderFeatures, answers: list[Answered], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        found = Distances("image", extractor).measure(answers[11:], ONE)
    assert list(found) == ["image/made"] and found["image/made"].value == 0.0
    assert "image: no answer has one" in caplog.text


def test_too_few_media_leave_a_distance_out(
    extractor: EncoderFeatures, answers: list[Answered], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        found = Distances("image", extractor).measure(answers[9:], ONE)
    assert found["image/made"].value == pytest.approx(2 / 3)
    assert "image/fid" in found and "image/precision" not in found
    assert "precision and recall: found 2 made and 3 real media; expected at least 4" in caplog.text


def test_nothing_real_is_told(extractor: EncoderFeatures, tmp_path: Path) -> None:
    own = [answer(tmp_path, 0, [picture(0)])]
    with pytest.raises(ValueError, match="found no real image to compare with"):
        Distances("image", extractor).measure(own, ONE)


@pytest.mark.parametrize(
    ("modality", "message"),
    [("smell", "modality: found 'smell'; expected image"), ("video", "which EncoderFeatures doesn't read")],
)
def test_modalities_are_checked(extractor: EncoderFeatures, modality: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Distances(modality, extractor)


class Broken:
    """Gives values that aren't numbers for the third medium."""

    modalities = (Modality.IMAGE,)
    chunk = 4

    def request(self, modality: Modality) -> None:
        return None

    def extract(self, media: Any) -> Any:
        values = np.ones((len(media), 2), np.float32)
        values[2:3] = np.nan
        return values, None

    def identity(self) -> dict[str, Any]:
        return {"extractor": "Broken"}


def test_values_that_are_not_finite_name_the_file(answers: list[Answered]) -> None:
    with pytest.raises(ValueError, match=r"2-0\.png: Broken gives values that aren't finite"):
        Distances("image", Broken()).measure(answers, ONE)


class Brightness:
    """Logits of three classes, from the mean of each colour."""

    modalities = (Modality.IMAGE,)
    chunk = 3

    def request(self, modality: Modality) -> None:
        return None

    def extract(self, media: Any) -> Any:
        means = np.stack([one.array.mean((0, 1)) for one in media]).astype(np.float32)
        return means, means / 10

    def identity(self) -> dict[str, Any]:
        return {"extractor": "Brightness"}


def of_classes(answers: list[Answered], processes: Processes) -> Mapping[str, Figure]:
    return Distances("image", Brightness(), [InceptionScore(splits=2), ClassDivergence()]).measure(answers, processes)


def _measured(rank: int, world: int, rendezvous: str, checkpoint: Path, answers: list[Answered], out: Path) -> None:
    distributed.init_process_group("gloo", init_method=rendezvous, rank=rank, world_size=world)
    extractor = EncoderFeatures(ImageBind(checkpoint, modalities=["image"]), chunk=5)
    found = {**Distances("image", extractor).measure(answers, Processes()), **of_classes(answers, Processes())}
    (out / f"{rank}.txt").write_text(repr(plain(found)), encoding="utf-8")
    distributed.destroy_process_group()


def test_two_processes_agree_bit_for_bit(
    tiny_encoders: dict[str, Path], extractor: EncoderFeatures, answers: list[Answered], tmp_path: Path
) -> None:
    given = (2, f"file://{tmp_path}/rendezvous", tiny_encoders["imagebind"], answers, tmp_path)
    multiprocessing.start_processes(_measured, given, nprocs=2, start_method="fork")
    alone = EncoderFeatures(ImageBind(tiny_encoders["imagebind"], modalities=["image"]), chunk=5)
    expected = repr(plain({**Distances("image", alone).measure(answers, ONE), **of_classes(answers, ONE)}))
    assert [(tmp_path / f"{rank}.txt").read_text(encoding="utf-8") for rank in range(2)] == [expected] * 2


def test_names_are_those_that_were_given(extractor: EncoderFeatures, answers: list[Answered]) -> None:
    distances = [Frechet("fd"), PolynomialKernel("mmd", subsets=3), PrecisionRecall(1)]
    found = Distances("image", extractor, distances).measure(answers, ONE)
    assert list(found) == ["image/made", "image/fd", "image/mmd", "image/precision", "image/recall"]
    with pytest.raises(ValueError, match="found ClassDivergence beside `reference`"):
        Distances("image", extractor, [ClassDivergence()], Shown([picture(0)]))
    with pytest.raises(ValueError, match="kl: found an extractor without class logits"):
        Distances("image", extractor, [ClassDivergence()]).measure(answers, ONE)


def test_a_reference_without_a_file_keeps_its_place(tmp_path: Path) -> None:
    whole = answer(tmp_path, 0, [picture(0), picture(1)], [picture(2), picture(3)])
    assert whole.expected is not None
    first, second = whole.expected.content
    described = MediumItem(Modality.IMAGE, None, "a cat")
    for content, places in (((described, second), [(1, 1)]), ((first, described), [(0, 0)])):
        own = replace(whole, expected=replace(whole.expected, content=content))
        pairs = pairs_of([own], Modality.IMAGE)
        assert [(pair.made.place, pair.expected.place) for pair in pairs] == places
        assert isinstance(kept := content[places[0][0]], MediumItem) and pairs[0].expected.medium is kept.media
