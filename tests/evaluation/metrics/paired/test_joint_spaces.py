"""Media beside texts: prompts and names of classes, in spaces of a tiny ImageBind and a tiny CLIP."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from stored_answers import answer, picture, sound

from isthmus.data.conversations.schema import MediumItem, Message
from isthmus.encoders import ImageBind
from isthmus.evaluation.metrics.base import Processes
from isthmus.evaluation.metrics.extractors import EncoderFeatures, TransformersImages
from isthmus.evaluation.metrics.extractors.base import Array
from isthmus.evaluation.metrics.paired import ImageBindTexts, PromptLikeness, TransformersTexts, ZeroShot
from isthmus.types import Media, Modality

ONE = Processes()
POCKET = Path(__file__).resolve().parents[4] / "checkpoints" / "pocket" / "imagebind"


@pytest.fixture(scope="module")
def bound() -> tuple[EncoderFeatures, ImageBindTexts]:
    encoder = ImageBind(POCKET, modalities=["image", "audio"])
    return EncoderFeatures(encoder), ImageBindTexts(encoder)


def test_prompts_against_plain_cosines(bound: tuple[EncoderFeatures, ImageBindTexts], tmp_path: Path) -> None:
    extractor, texts = bound
    answers = [
        answer(tmp_path, 0, [picture(0), picture(1)], prompt="a red three"),
        answer(tmp_path, 1, [sound(0)], prompt="a spoken seven"),
        answer(tmp_path, 2, [picture(2)], prompt="never read"),
    ]
    captioned = Message("assistant", (MediumItem(Modality.IMAGE, None, "a blue one"),))
    answers[2] = replace(answers[2], expected=captioned)
    figure = PromptLikeness("image", extractor, texts).measure(answers, ONE)["image/clip_score"]
    rows = torch.from_numpy(extractor.extract([picture(place) for place in range(3)])[0])
    words = torch.from_numpy(texts.embed(["a red three", "a red three", "a blue one"]))
    cosines = torch.nn.functional.cosine_similarity(rows, words).clamp(min=0) * 100
    assert figure.scores == {
        "set/0": pytest.approx(float(cosines[:2].mean()), abs=1e-4),
        "set/2": pytest.approx(float(cosines[2]), abs=1e-4),
    }
    assert {"extractor", "weights", "texts_weights", "captions"} <= set(figure.protocol)
    part = Message("assistant", (MediumItem(Modality.IMAGE, None), MediumItem(Modality.IMAGE, None, "a blue one")))
    second = PromptLikeness("image", extractor, texts).measure([replace(answers[0], expected=part)], ONE)
    own = texts.embed(["a red three", "a blue one"])
    likeness = torch.nn.functional.cosine_similarity(rows[:2], torch.from_numpy(own)).clamp(min=0) * 100
    assert second["image/clip_score"].value == pytest.approx(float(likeness.mean()), abs=1e-4)
    heard = PromptLikeness("audio", extractor, texts, name="bind_score").measure(answers, ONE)
    assert list(heard) == ["audio/bind_score"] and heard["audio/bind_score"].n == 1
    assert PromptLikeness("image", extractor, texts).measure(answers[1:2], ONE) == {}
    detailed = [replace(answers[0], details={"caption": ["a red three", "x"]})]
    named = PromptLikeness("image", extractor, texts, caption="caption").measure(detailed, ONE)["image/clip_score"]
    assert named.value == pytest.approx(figure.scores["set/0"])


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CLIP of random weights whose eight letters are its tokens."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("clip")
    tokens = {token: place for place, token in enumerate("[PAD] a b c d e f g [CLS] [SEP]".split())}
    tokenizer = Tokenizer(models.WordLevel(tokens, "a"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 9), ("[CLS]", 8))
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]", model_max_length=16)
    fast.save_pretrained(folder)
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    text = {**sizes, "vocab_size": 10, "max_position_embeddings": 16, "eos_token_id": 9, "bos_token_id": 8}
    vision = {**sizes, "image_size": 16, "patch_size": 8}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=12))
        for parameter in model.parameters():
            parameter.data.normal_(0, 0.3)
    model.save_pretrained(folder)
    square = {"height": 16, "width": 16}
    CLIPImageProcessorPil(size={"shortest_edge": 16}, crop_size=square).save_pretrained(folder)
    return folder


def test_a_clip_gives_torchmetrics_score(clip: Path, tmp_path: Path) -> None:
    from transformers import AutoTokenizer, CLIPModel

    answers = [answer(tmp_path, number, [picture(number)], prompt="abcdefg"[: number + 1]) for number in range(4)]
    extractor = TransformersImages(clip, layer="projected")
    figure = PromptLikeness("image", extractor, TransformersTexts(clip)).measure(answers, ONE)["image/clip_score"]
    model, tokenizer = CLIPModel.from_pretrained(clip), AutoTokenizer.from_pretrained(clip)
    pixels = torch.stack([extractor.pixels(picture(number).array) for number in range(4)])
    inputs = tokenizer(["a", "ab", "abc", "abcd"], padding=True, return_tensors="pt")
    with torch.no_grad():
        whole = model(inputs["input_ids"], pixels, inputs["attention_mask"])
    cosines = (whole.image_embeds * whole.text_embeds).sum(1).clamp(min=0) * 100
    assert figure.scores is not None
    assert list(figure.scores.values()) == pytest.approx(cosines.tolist(), abs=1e-3)
    assert figure.protocol["texts"] == "CLIPTextModelWithProjection"


class Colours:
    """A space of three colours, so that classes are known: a picture's mean, and the word for it."""

    modalities: tuple[Modality, ...] = (Modality.IMAGE,)
    chunk = 2

    def request(self, modality: Modality) -> None:
        return None

    def extract(self, media: Sequence[Media]) -> tuple[Array, Array | None]:
        return np.stack([medium.array.mean((0, 1)) / 255 for medium in media]).astype(np.float32), None

    def embed(self, texts: Sequence[str]) -> Array:
        names = ("red", "green", "blue")
        return np.array([[float(name in text) for name in names] for text in texts], np.float32)

    def identity(self) -> dict[str, object]:
        return {"extractor": "colours"}


def coloured(*colour: int) -> Media:
    return Media(Modality.IMAGE, np.broadcast_to(np.array(colour, np.uint8), (8, 8, 3)).copy())


def test_classes_are_told_by_the_nearest_name(tmp_path: Path) -> None:
    shown = [(250, 10, 0), (10, 200, 40), (0, 0, 90), (90, 100, 10)]
    labels = ["red", "green", "blue", "red"]
    names = ["red", "green", "blue", "red and green", "green and blue", "blue and red", "grey"]
    space = Colours()
    answers = [
        replace(answer(tmp_path, place, [coloured(*colour)]), details={"label": label, "choices": names})
        for place, (colour, label) in enumerate(zip(shown, labels, strict=True))
    ]
    metric = ZeroShot(space, space, "image", of="made", templates=["a {} picture", "{}"])
    figures = metric.measure(answers, ONE)
    assert figures["image/zero_shot_top1"].scores == {"set/0": 1, "set/1": 1, "set/2": 1, "set/3": 0}
    assert figures["image/zero_shot_top5"].value == 1 and figures["image/zero_shot_top1"].protocol["of"] == "made"
    assert ZeroShot(space, space, "image").measure(answers, ONE) == {}  # no medium was given
    item = MediumItem(Modality.IMAGE, coloured(0, 255, 0))
    given = [replace(answers[1], prompt=(Message("user", (item,)),), files=())]
    assert ZeroShot(space, space, "image").measure(given, ONE)["image/zero_shot_top1"].value == 1
    others = {"label": "violet", "choices": ["violet", "green"]}
    alike = [answers[0], replace(answers[1], id=answers[0].id, details=others)]  # ids may repeat
    assert metric.measure(alike, ONE)["image/zero_shot_top1"].value == 0.5
    wrong = [replace(answers[0], details={"label": "pink", "choices": names})]
    with pytest.raises(ValueError, match=r"details\.label: found 'pink'; expected one of details\.choices"):
        metric.measure(wrong, ONE)


def test_an_encoder_that_says_the_same_of_all_finds_nothing(tmp_path: Path) -> None:
    space = Colours()
    black = replace(answer(tmp_path, 0, [coloured(0, 0, 0)]), details={"label": "red", "choices": ["red", "blue"]})
    assert ZeroShot(space, space, "image", of="made").measure([black], ONE)["image/zero_shot_top1"].value == 0


def test_faults_are_named(bound: tuple[EncoderFeatures, ImageBindTexts], clip: Path, tmp_path: Path) -> None:
    extractor, texts = bound
    with pytest.raises(ValueError, match="modality: found 'points', which EncoderFeatures doesn't read"):
        ZeroShot(extractor, texts)
    with pytest.raises(ValueError, match="templates: found"):
        ZeroShot(extractor, texts, "image", templates=["a thing"])
    with pytest.raises(ValueError, match="of: found 'both'"):
        ZeroShot(extractor, texts, "image", of="both")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="texts: found rows of 12 beside"):
        made = [answer(tmp_path, 0, [picture(0)], prompt="abc")]
        PromptLikeness("image", extractor, TransformersTexts(clip)).measure(made, ONE)
    with pytest.raises(ValueError, match="chunk: found 0; expected at least 1"):
        TransformersTexts(clip, chunk=0)
    with pytest.raises(ValueError, match="expected CLIP or CLAP"):
        TransformersTexts(POCKET.parent / "llama")
