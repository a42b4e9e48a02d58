"""Experts for a user's own captioned media, trained a few steps, in the folders that the configs name."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_captions import write_captioned
from tiny_manifest import records_of, write_manifest
from transformers import AutoTokenizer, LlamaForCausalLM

from isthmus.data.formats.captions import instructions
from isthmus.encoders.imagebind.encoder import ImageBind
from isthmus.encoders.point_bert.encoder import PointBert
from isthmus.pocket import train
from isthmus.pocket.experts.language.captioner import drawn_chat
from isthmus.pocket.own.caption_tuning import tune
from isthmus.pocket.own.captioned import CaptionedSet, has_labels, words_of
from isthmus.pocket.own.tuning import FIGURES
from isthmus.types import Modality


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_captioned(tmp_path_factory.mktemp("own") / "shapes")


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory, manifest: Path, repository: Path) -> Path:
    """What the command writes."""
    folder = tmp_path_factory.mktemp("experts")
    arguments = ["--manifest", manifest, "--out", folder, "--scratch", folder / "scratch", "--effort", "0.002"]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(repository)
        patch.setattr("sys.argv", ["train", *map(str, arguments)])
        train.main()
    return folder


def test_the_command_trains_what_the_set_has(out: Path) -> None:
    figures = json.loads((out / FIGURES).read_text())
    assert list(figures) == ["llama", "imagebind", "point_bert"]
    assert {"image_recall_at_1", "image_median_rank", "video_recall_at_10", "video_n"} <= figures["imagebind"].keys()
    assert figures["point_bert"]["points_n"] == 6 and 1 <= figures["point_bert"]["points_median_rank"] <= 6


def test_the_llm_has_the_captions_words_and_reads_any_other(out: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(out / "llama", local_files_only=True)
    llm = LlamaForCausalLM.from_pretrained(out / "llama", local_files_only=True)
    assert llm.config.vocab_size == len(tokenizer)
    assert tokenizer.tokenize("moving yellow") == ["▁moving", "▁yellow"]
    ids = tokenizer("ein Ölfaß", add_special_tokens=False)["input_ids"]
    assert tokenizer.unk_token_id not in ids and tokenizer.decode(ids) == "ein ölfaß"


def test_chats_hold_a_caption_and_some_of_its_words_in_any_order() -> None:
    captions = {Modality.IMAGE: ("red big box", "blue ball"), Modality.VIDEO: ("moving red box",)}
    random, heard = np.random.default_rng(0), []
    for _ in range(200):
        user, assistant = drawn_chat(captions, random)
        modality = next(name for name, own in captions.items() if assistant["content"] in own)
        (instruction,) = [line for line in instructions(modality, "describe") if user["content"].endswith(line)]
        words = user["content"].removesuffix(instruction).split()
        assert set(words) <= set(assistant["content"].split()) and len(words) == len(set(words))
        heard.append((assistant["content"], tuple(words)))
    assert len({words for caption, words in heard if caption == "red big box"}) > 6
    videos = sum(caption == "moving red box" for caption, _ in heard)
    assert 40 < videos < 95  # a third of the captions


def test_encoders_go_on_from_the_embedded_ones(out: Path, manifest: Path, repository: Path) -> None:
    folders = repository / "checkpoints" / "pocket", out
    start, tuned = (ImageBind(folder / "imagebind", modalities=["image", "video"]) for folder in folders)
    for expert in (start, tuned):
        expert.load(torch.device("cpu"))
    name = "modality_trunks.vision.blocks.0.attn.in_proj_weight"
    before, after = (dict(expert.model.named_parameters())[name] for expert in (start, tuned))
    assert 0 < (before - after).norm() < 0.1 * before.norm()
    texts = tuned.encode_text(tuned.tokenize(["red box", "moving blue"]))
    assert torch.allclose(texts.norm(dim=-1), torch.ones(2))
    captioned = CaptionedSet(manifest)
    for modality, expert in (
        (Modality.IMAGE, tuned),
        (Modality.VIDEO, tuned),
        (Modality.POINTS, PointBert(out / "point_bert")),
    ):
        medium = captioned.pool(modality, "test").media[0]
        inputs = {key: tensor[None] for key, tensor in expert.preprocess(medium).items()}
        tokens = expert(modality, inputs).tokens
        assert tokens.shape == (1, 1, 64) and torch.isfinite(tokens).all()


def test_pools_hold_media_and_their_captions(manifest: Path) -> None:
    captioned = CaptionedSet(manifest)
    assert captioned.modalities == (Modality.IMAGE, Modality.VIDEO, Modality.POINTS)
    assert [len(captioned.pool(Modality.VIDEO, split).media) for split in ("train", "test")] == [12, 6]
    records = [record for record in records_of(manifest) if record["modality"] == "points"]
    assert captioned.captions(Modality.POINTS) == tuple(record["caption"] for record in records[:12])
    with np.load(manifest.parent / "clouds.npz") as stored:
        assert np.array_equal(captioned.pool(Modality.POINTS, "test").media[0].array, stored["points"][12])
    assert words_of(["Brick 2 x 4, (Complete)", "brick"])[0] == "brick"
    assert set(words_of(["Duplo 1.5L Merry-Go-Round"])) == {"duplo", "1.5l", "merry-go-round"}


def test_faults_name_the_record_and_the_fix(manifest: Path, tmp_path: Path) -> None:
    records = records_of(manifest)
    assert not has_labels(manifest)

    def written(changed: list[dict[str, object]]) -> Path:
        return write_manifest(manifest.parent.parent / "shapes", changed).rename(manifest.parent / "other.jsonl")

    original = manifest.read_bytes()
    try:
        other = written([{key: value for key, value in record.items() if key != "caption"} for record in records])
        with pytest.raises(ValueError, match=r"other\.jsonl.*caption"):
            CaptionedSet(other).pool(Modality.IMAGE, "train")
        other = written([record for record in records if record["split"] == "train"])
        with pytest.raises(ValueError, match=r"other\.jsonl: found no record of which .*'split' is test"):
            CaptionedSet(other).pool(Modality.IMAGE, "test")
        other = written([record | {"split": "test"} for record in records])
        with pytest.raises(ValueError, match=r"found no record of which .*'split' is train"):
            CaptionedSet(other)
        other = written([record for record in records if record["modality"] == "points"])
        with pytest.raises(ValueError, match=r"found points in the training split; expected images or videos\. Fix"):
            tune(CaptionedSet(other), tmp_path, manifest.parent, tmp_path, experts=["imagebind"])
        other = written([record for record in records if record["modality"] == "image"])
        with pytest.raises(ValueError, match=r"found image in the training split; expected points\. Fix"):
            tune(CaptionedSet(other), tmp_path, manifest.parent, tmp_path, experts=["point_bert"])
        with pytest.raises(ValueError, match="experts: found 'judges'; expected some of llama, imagebind, point_bert"):
            tune(CaptionedSet(other), tmp_path, manifest.parent, tmp_path, experts=["judges"])
    finally:
        manifest.write_bytes(original)
