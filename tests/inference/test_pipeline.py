"""The pipeline: requests in, replies out, the same whoever else asks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from isthmus.backbones.base import Sampling
from isthmus.inference.pipeline import Pipeline
from isthmus.model import Reply
from isthmus.types import Modality


def asked(text: str, **media: Any) -> list[dict[str, Any]]:
    pieces = [{"type": kind, kind: value} for kind, value in media.items()]
    return [{"role": "user", "content": [*pieces, {"type": "text", "text": text}]}]


def assert_same(one: Reply, other: Reply) -> None:
    assert one.text == other.text and len(one.content) == len(other.content)
    for mine, yours in zip(one.media(), other.media(), strict=True):
        assert mine.modality is yours.modality and mine.details == yours.details
        distance = np.abs(mine.array.astype(np.float64) - yours.array.astype(np.float64)).max()
        assert distance <= (1e-4 if mine.array.dtype == np.float32 else 1)


def test_a_batch_answers_each_request_as_if_alone(opened: Pipeline, files: dict[str, Path]) -> None:
    requests = [asked("what is it", image=files["image"]), asked("play it", points=files["points"]), asked("hello")]
    require = [["image"], ["audio", "image"], []]
    together = opened(requests, require, seed=5)
    assert [medium.modality for medium in together[1].media()] == [Modality.AUDIO, Modality.IMAGE]
    for i, (request, required) in enumerate(zip(requests, require, strict=True)):
        assert_same(together[i], opened([request], [required], seed=5 + i)[0])
    pieces = Pipeline(opened.model, opened.sampling, batch_size=2)(requests, require, seed=5)
    for one, other in zip(together, pieces, strict=True):
        assert_same(one, other)


def test_the_pipeline_and_the_model_answer_alike(opened: Pipeline, files: dict[str, Path]) -> None:
    messages = asked("draw what you hear", audio=files["audio"])
    assert_same(
        opened([messages], [["image"]])[0], opened.model.chat(messages, require=["image"], sampling=opened.sampling)
    )


def test_seeds_decide_samples_and_media(bundle: Path, opened: Pipeline) -> None:
    sampled = Pipeline(opened.model, Sampling(max_new_tokens=12, temperature=1.0, seed=1))
    first, again, other = (sampled([asked("draw")], [["image"]], seed)[0] for seed in (1, None, 2))
    assert_same(first, again)
    assert first.text != other.text
    assert not np.array_equal(first.media()[0].array, other.media()[0].array)


def test_experts_stay_resident(opened: Pipeline) -> None:
    assert opened.model.output_side is not None
    opened([asked("draw")], [["image"]])
    generator = opened.model.output_side.generator(Modality.IMAGE)
    before = [id(module) for module in generator.modules()]
    opened([asked("draw another")], [["image"]])
    assert [id(module) for module in generator.modules()] == before and len(before) > 10


def test_steps_and_guidance_reach_the_generators(opened: Pipeline) -> None:
    pipeline = Pipeline(opened.model, opened.sampling, num_inference_steps=3, guidance_scale=1.0)
    (medium,) = pipeline([asked("draw")], [["image"]])[0].media()
    assert (medium.details["num_inference_steps"], medium.details["guidance_scale"]) == (3, 1.0)


def test_what_is_refused(opened: Pipeline, bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="require: found 'smell'; expected media: image"):
        opened([asked("hi")], [["smell"]])
    with pytest.raises(ValueError, match="require: found 2 lists for 1 requests"):
        opened([asked("hi")], [[], []])
    with pytest.raises(ValueError, match="points is required, but this model makes text, image, video, audio"):
        opened([asked("hi")], [["points"]])
    with pytest.raises(ValueError, match=r"requests\[1\]: messages\[0\]\.role: found 'robot'"):
        opened([asked("hi"), [{"role": "robot", "content": "hi"}]])
    with pytest.raises(ValueError, match="batch_size: found 0"):
        Pipeline(opened.model, batch_size=0)
    with pytest.raises(ValueError, match="device: found 'toaster'"):
        Pipeline.open(bundle, "toaster")
    with pytest.raises(ValueError, match=f"no trained model; did you mean {bundle}"):
        Pipeline.open(bundle.parent)


def test_an_opened_model_can_be_saved_again(bundle: Path, opened: Pipeline, tmp_path: Path) -> None:
    again = opened.model.save(tmp_path / "again", "stage")
    first, second = (json.loads((folder / "manifest.json").read_text()) for folder in (bundle, again))
    assert first["configuration"] == second["configuration"] and first["components"] == second["components"]


def test_a_folder_whose_experts_are_gone(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lonely = tmp_path / "stage"
    lonely.symlink_to(bundle)  # its parents are the real ones: the experts are found
    assert Pipeline.open(lonely, "cpu").model.outputs == ["image", "video", "audio"]
    copy = tmp_path / "copy"
    copy.mkdir()
    # Experts of the user's own: the embedded ones are found wherever the package is.
    manifest = (bundle / "manifest.json").read_text().replace("checkpoints/pocket/", "checkpoints/own/")
    (copy / "manifest.json").write_text(manifest)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"copy: found no .*backbone \(checkpoints/own/llama\).*--experts_root"):
        Pipeline.open(copy, "cpu")
