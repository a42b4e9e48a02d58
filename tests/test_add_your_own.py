"""docs/parts/add_your_own.md keeps its word: its classes and its configs, as they stand there, train a stage."""

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
from tiny_world import tiny_clone, write_llm

from isthmus import cli
from isthmus.encoders.base import Encoder
from isthmus.generators.base import Generator
from isthmus.model import AnyToAny
from isthmus.types import Media, Modality

PAGE = Path(__file__).resolve().parents[1] / "docs" / "parts" / "add_your_own.md"
NAMES = ("spectrogram", "music")
"""The page's experts, in order: each is a module `NAME_expert.py` and a config `NAME.yaml`."""


def blocks(language: str) -> list[str]:
    """The page's code blocks in a language, one of each expert."""
    found = re.findall(rf"^```{language}\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert len(found) == len(NAMES)
    return [str(block) for block in found]


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


def write_tiny() -> None:
    """Both of the page's experts where its configs look for them."""
    write_transformer(Path("checkpoints/ast"))
    write_musicgen(Path("checkpoints/musicgen"))


def write_musicgen(folder: Path) -> None:
    """A tiny MusicGen in the published form: T5, a language model of one codebook, and EnCodec at 16 kHz."""
    from transformers import (
        EncodecConfig,
        MusicgenConfig,
        MusicgenDecoderConfig,
        MusicgenForConditionalGeneration,
        T5Config,
    )

    write_llm(folder)  # for its tokenizer
    (folder / "model.safetensors").unlink()
    text = T5Config(vocab_size=300, d_model=16, d_kv=8, d_ff=24, num_layers=1, num_heads=2, decoder_start_token_id=0)
    codec = EncodecConfig(
        sampling_rate=16000,
        num_filters=4,
        hidden_size=8,
        codebook_size=16,
        codebook_dim=8,
        upsampling_ratios=[8, 5, 4, 2],
        num_lstm_layers=1,
        target_bandwidths=[0.4],
    )
    begin = 16  # the number that MusicGen gives its first code, behind those of the codebook
    decoder = MusicgenDecoderConfig(
        vocab_size=16,
        num_codebooks=codec.num_quantizers,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        ffn_dim=16,
        max_position_embeddings=512,
        pad_token_id=begin,
        bos_token_id=begin,
    )
    torch.manual_seed(6)
    model = MusicgenForConditionalGeneration(
        MusicgenConfig(text_encoder=text.to_dict(), audio_encoder=codec.to_dict(), decoder=decoder.to_dict())
    )
    for name, buffer in model.audio_encoder.named_buffers():
        if name.endswith("embed"):  # a codebook, which training fills
            buffer.normal_()
    own = {"decoder_start_token_id": begin, "pad_token_id": begin, "bos_token_id": begin}
    model.generation_config.update(**own, guidance_scale=3.0, do_sample=True)
    model.save_pretrained(folder)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where a reader of the page works: its files, the checkpoints, and tiny experts for the rest."""
    folder = tiny_clone(tmp_path_factory.mktemp("clone"))
    for name, module, config in zip(NAMES, blocks("python"), blocks("yaml"), strict=True):
        (folder / f"{name}_expert.py").write_text(module, encoding="utf-8")
        (folder / f"{name}.yaml").write_text(config, encoding="utf-8")
    write_transformer(folder / "checkpoints" / "ast")
    write_musicgen(folder / "checkpoints" / "musicgen")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        patch.chdir(folder)
        yield folder
    for name in NAMES:
        sys.modules.pop(f"{name}_expert", None)


@pytest.fixture
def encoder(folder: Path) -> Any:
    return importlib.import_module("spectrogram_expert").SpectrogramTransformer(str(folder / "checkpoints" / "ast"))


@pytest.fixture
def generator(folder: Path) -> Any:
    return importlib.import_module("music_expert").MusicGen(str(folder / "checkpoints" / "musicgen"), 0.5, tokens=12)


def recording(samples: int) -> Media:
    random = np.random.default_rng(samples)
    return Media(Modality.AUDIO, random.standard_normal(samples).astype(np.float32) * 0.1, rate=8000)


def test_the_encoder_keeps_the_contract(encoder: Any, folder: Path) -> None:
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


def test_the_generator_keeps_the_contract(generator: Any, folder: Path) -> None:
    from transformers import AutoTokenizer, T5EncoderModel

    assert isinstance(generator, Generator) and not generator.is_loaded and not generator.denoises
    condition = generator.condition(["a cat", "rain"])
    assert tuple(condition.tokens.shape[1:]) == generator.condition_shape == (12, 16)
    ids = AutoTokenizer.from_pretrained(folder / "checkpoints" / "musicgen")("rain", return_tensors="pt").input_ids
    assert ids.shape[1] < 12 and not condition.tokens[1, ids.shape[1] :].any()
    own = generator.model.text_encoder
    assert type(own).__name__ == T5EncoderModel.__name__
    torch.testing.assert_close(condition.tokens[1, : ids.shape[1]], own(ids).last_hidden_state[0])

    both, alone = generator.generate(condition, [3, 4]), generator.generate(condition[torch.tensor([1])], [4])
    assert [medium.rate for medium in both] == [16000, 16000] and len(both[0].array) >= 0.45 * 16000
    np.testing.assert_array_equal(both[1].array, alone[0].array)
    assert not np.array_equal(both[1].array, generator.generate(condition[torch.tensor([1])], [5])[0].array)
    with pytest.raises(ValueError, match=r"MusicGen has no denoising loss\. Fix: leave files out"):
        generator.prepare(both[0])


def fit(config: str, stage: str, folder: str, *extra: str) -> Path:
    """``train.py fit`` of one of the page's configs, short; the trained stage's folder."""
    cli.train(
        [
            *("fit", "-c", config, f"--training.folder={folder}", f"--training.stages.{stage}.steps=2"),
            *("--data.batch_size=4", "--trainer.accelerator=cpu", "--trainer.logger=false"),
            *("--trainer.enable_progress_bar=false", "--model.backbone.init_args.max_length=900"),
            *extra,
        ]
    )
    return Path(folder, stage)


def check_learnt(config: str, stage: str, part: str) -> Path:
    """Fits a config with and without learning; every weight of the part has moved. The trained stage's folder."""
    trained = fit(config, stage, f"runs/{part}")
    still = fit(config, stage, f"runs/{part}-still", f"--training.stages.{stage}.optimizer.init_args.lr=0")
    before, after = load_file(still / f"{part}.safetensors"), load_file(trained / f"{part}.safetensors")
    assert set(before) == set(after)
    assert all(not torch.equal(before[key], after[key]) for key in before if key.endswith("weight"))
    return trained


@pytest.mark.slow
def test_the_encoders_config_trains_a_stage(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["train.py"])
    trained = check_learnt("spectrogram.yaml", "encoder_alignment", "input_projectors.audio")
    model = AnyToAny.from_checkpoint(trained, allow=["spectrogram_expert"])
    assert model.inputs == [Modality.AUDIO] and model.outputs == []
    assert type(model.input_side.encoder(Modality.AUDIO)).__name__ == "SpectrogramTransformer"


@pytest.mark.slow
def test_the_generators_config_trains_a_stage(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["train.py"])
    trained = check_learnt("music.yaml", "decoder_alignment", "output_projectors.audio")
    model = AnyToAny.from_checkpoint(trained, allow=["music_expert"])
    assert model.inputs == [] and model.outputs == [Modality.AUDIO]
    reply = model.chat([{"role": "user", "content": "play seven"}], require=["audio"])
    (made,) = reply.media()
    assert made.modality is Modality.AUDIO and made.rate == 16000 and np.isfinite(made.array).all()
