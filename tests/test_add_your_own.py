"""docs/parts/add_your_own.md keeps its word: its class and its config, as they stand there, train a stage."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tiny_world import tiny_clone

from isthmus import cli
from isthmus.encoders.base import Encoder
from isthmus.model import AnyToAny
from isthmus.types import Media, Modality

PAGE = Path(__file__).resolve().parents[1] / "docs" / "parts" / "add_your_own.md"
NAME = "spectrogram_expert"


def block(language: str) -> str:
    """The page's only code block in a language."""
    (found,) = re.findall(rf"^```{language}\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return str(found)


def write_transformer(folder: Path) -> None:
    """A tiny Audio Spectrogram Transformer in the published form."""
    from transformers import ASTConfig, ASTFeatureExtractor, ASTModel

    sizes = ASTConfig(
        hidden_size=12,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        patch_size=8,
        frequency_stride=6,
        time_stride=8,
        num_mel_bins=16,
        max_length=32,
    )
    torch.manual_seed(5)
    ASTModel(sizes).save_pretrained(folder)
    ASTFeatureExtractor(num_mel_bins=16, max_length=32).save_pretrained(folder)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where a reader of the page works: its two files, the checkpoint, and tiny experts for the rest."""
    folder = tiny_clone(tmp_path_factory.mktemp("clone"))
    (folder / f"{NAME}.py").write_text(block("python"), encoding="utf-8")
    (folder / "spectrogram.yaml").write_text(block("yaml"), encoding="utf-8")
    write_transformer(folder / "checkpoints" / "ast")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        patch.chdir(folder)
        yield folder
    sys.modules.pop(NAME, None)


@pytest.fixture
def encoder(folder: Path) -> Any:
    return importlib.import_module(NAME).SpectrogramTransformer(str(folder / "checkpoints" / "ast"))


def recording(samples: int) -> Media:
    random = np.random.default_rng(samples)
    return Media(Modality.AUDIO, random.standard_normal(samples).astype(np.float32) * 0.1, rate=8000)


def test_it_is_as_short_as_it_says() -> None:
    lines = [line for line in block("python").splitlines() if line.strip()]
    assert len(lines) <= 40 and max(map(len, lines)) <= 120


def test_the_class_keeps_the_contract(encoder: Any, folder: Path) -> None:
    from transformers import ASTModel

    media = [encoder.preprocess(recording(samples)) for samples in (1600, 4800)]
    assert isinstance(encoder, Encoder) and not encoder.is_loaded
    features = encoder(Modality.AUDIO, {"banks": torch.stack([medium["banks"] for medium in media])})
    counts = {encoder.token_count(Modality.AUDIO, medium) for medium in media}
    assert counts == {features.tokens.shape[1]} and features.mask.all()
    assert features.tokens.shape[2] == encoder.width(Modality.AUDIO) == 12
    own = ASTModel.from_pretrained(folder / "checkpoints" / "ast").eval()
    with torch.no_grad():
        expected = own(media[1]["banks"][None]).last_hidden_state[0]
    torch.testing.assert_close(features.tokens[1], expected)
    assert not any(parameter.requires_grad for parameter in encoder.parameters())


def fit(folder: str, *extra: str) -> Path:
    """``train.py fit`` of the page's config, short; the trained stage's folder."""
    cli.train(
        [
            *("fit", "-c", "spectrogram.yaml", f"--training.folder={folder}"),
            "--training.stages.encoder_alignment.steps=2",
            *("--data.batch_size=4", "--trainer.accelerator=cpu", "--trainer.logger=false"),
            *("--trainer.enable_progress_bar=false", "--model.backbone.init_args.max_length=900"),
            *extra,
        ]
    )
    return Path(folder, "encoder_alignment")


@pytest.mark.slow
def test_the_config_trains_a_stage_with_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["train.py"])
    trained = fit("runs/trained")
    still = fit("runs/still", "--training.stages.encoder_alignment.optimizer.init_args.lr=0")
    name = "input_projectors.audio.safetensors"
    before, after = load_file(still / name), load_file(trained / name)
    assert set(before) == set(after)
    assert all(not torch.equal(before[key], after[key]) for key in before if key.endswith("weight"))

    model = AnyToAny.from_checkpoint(trained, allow=["spectrogram_expert"])
    assert model.inputs == [Modality.AUDIO] and model.outputs == []
    assert type(model.input_side.encoder(Modality.AUDIO)).__name__ == "SpectrogramTransformer"
