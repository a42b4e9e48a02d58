"""Judges and experts for a user's own set, trained a few steps, in the folders and formats that the config names."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_manifest import write_set

from isthmus.encoders.imagebind.encoder import ImageBind
from isthmus.encoders.point_bert.encoder import PointBert
from isthmus.pocket.judges.base import judge_accuracy
from isthmus.pocket.judges.image import ImageJudge
from isthmus.pocket.judges.speech import SpeechJudge, SpeechReader, spectra
from isthmus.pocket.judges.speech_training import augmented, shuffled
from isthmus.pocket.manifest_world import ManifestWorld
from isthmus.pocket.own.tuning import FIGURES, tune
from isthmus.pocket.tasks import Describe
from isthmus.pocket.train import main
from isthmus.types import Media, Modality


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_set(tmp_path_factory.mktemp("own") / "digits", train=20)


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory, manifest: Path, repository: Path) -> Path:
    folder = tmp_path_factory.mktemp("experts")
    start = repository / "checkpoints" / "pocket"
    figures = tune(
        ManifestWorld(manifest), folder, start, folder / "scratch", 0.003, 0, ["judges", "imagebind", "point_bert"]
    )
    assert figures == json.loads((folder / FIGURES).read_text())
    assert set(figures["judges"]) == {"image", "video", "audio", "seconds"}
    assert set(figures["point_bert"]) == {"points_digit_probe", "points_digit_zero_shot", "seconds"}
    return folder


def test_judges_read_and_encoders_encode(out: Path, manifest: Path) -> None:
    world = ManifestWorld(manifest)
    for judge in (ImageJudge(out / "judges"), SpeechJudge(out / "judges")):
        scores = judge_accuracy(judge, n=10, world=world)
        assert set(scores) == {"digit", "all"} and 0 <= scores["digit"] <= 1
    source = Describe(size=4, world=world)
    experts = {Modality.POINTS: PointBert(out / "point_bert")}
    experts |= dict.fromkeys((Modality.IMAGE, Modality.VIDEO, Modality.AUDIO), ImageBind(out / "imagebind"))
    for index, modality in enumerate((Modality.IMAGE, Modality.VIDEO, Modality.AUDIO, Modality.POINTS)):
        (medium,) = [i.media for i in source[index].messages[0].content if getattr(i, "modality", None) is modality]
        inputs = {key: tensor[None] for key, tensor in experts[modality].preprocess(medium).items()}
        assert torch.isfinite(experts[modality](modality, inputs).tokens).all()


def test_the_text_tower_stays_and_the_others_move(out: Path, repository: Path) -> None:
    start = ImageBind(repository / "checkpoints" / "pocket" / "imagebind")
    ids = start.tokenize(["a seven", "the tone of two"])
    tuned = ImageBind(out / "imagebind")
    assert torch.allclose(start.encode_text(ids), tuned.encode_text(tuned.tokenize(["a seven", "the tone of two"])))
    pixels = {"vision": torch.randn(1, 3, 32, 32)}
    assert not torch.allclose(start(Modality.IMAGE, pixels).tokens, tuned(Modality.IMAGE, pixels).tokens)


@pytest.mark.slow
def test_generators_go_on_from_the_embedded_ones(tmp_path: Path, out: Path, manifest: Path, repository: Path) -> None:
    (tmp_path / "judges").symlink_to(out / "judges")
    start = repository / "checkpoints" / "pocket"
    world = ManifestWorld(manifest)
    names = ["audioldm", "stable_diffusion", "zeroscope"]
    figures = tune(world, tmp_path, start, tmp_path / "scratch", 0.001, 0, names)
    assert list(figures) == names
    for name in names:
        made = {str(path.relative_to(tmp_path / name)) for path in (tmp_path / name).rglob("*") if path.is_file()}
        assert made == {str(path.relative_to(start / name)) for path in (start / name).rglob("*") if path.is_file()}


def test_speech_judge_abstains_and_reads_alone_as_together(out: Path, manifest: Path) -> None:
    judge = SpeechJudge(out / "judges")
    pool = ManifestWorld(manifest).pool(Modality.AUDIO, "test")
    assert judge.many(pool.media) == [judge(medium) for medium in pool.media]
    silence = Media(Modality.AUDIO, np.zeros(4000, np.float32), rate=8000.0)
    assert judge(silence) == {"digit": None}
    with pytest.raises(ValueError, match=r"speech\.safetensors is missing; expected SpeechReader's weights"):
        SpeechJudge(out)


def test_spectra_do_not_depend_on_loudness() -> None:
    sounds = 0.1 * torch.randn(3, 10240, generator=torch.Generator().manual_seed(0))
    seen = spectra(sounds)
    assert seen.shape == (3, 1, 64, 64) and seen.amax((1, 2, 3)).allclose(torch.ones(3))
    assert torch.allclose(seen, spectra(4 * sounds), atol=1e-4)
    assert augmented(seen).shape == shuffled(seen).shape == seen.shape
    assert torch.equal(shuffled(seen)[:, :, 32:], seen[:, :, 32:]) and not torch.equal(shuffled(seen), seen)
    assert SpeechReader().eval()(seen).shape == (3, 11)


def test_faults_of_the_command(
    manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ValueError, match=r"experts: found 'llama'; expected some of judges, imagebind"):
        tune(ManifestWorld(manifest), tmp_path, tmp_path, tmp_path, experts=["llama"])
    for arguments, says in (
        (["--manifest", str(manifest)], "--out: found none"),
        (["--experts", "judges"], "--experts: found without --manifest"),
    ):
        monkeypatch.setattr("sys.argv", ["train", *arguments])
        with pytest.raises(SystemExit):
            main()
        assert says in capsys.readouterr().err
