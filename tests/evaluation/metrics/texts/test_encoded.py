"""BERTScore and FENSE: equal to the libraries' own, with a random encoder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_answers import answered
from tiny_bert import write_bert

from isthmus.evaluation.metrics.base import Processes
from isthmus.evaluation.metrics.texts.bert_score import BertScore
from isthmus.evaluation.metrics.texts.fense import Fense

REPLIES = ["a red cat", "dog", "", "two boats at sea", "a mat"]
REFERENCES = [["the red cat", "cat"], ["a dog runs"], ["sea"], ["boats", "two boats", "ships at sea"], ["a mat"]]


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bert")
    write_bert(folder)
    return folder


@pytest.fixture(scope="module")
def answers() -> list[Any]:
    pairs = zip(REPLIES, REFERENCES, strict=True)
    return [answered(said, place, captions=own) for place, (said, own) in enumerate(pairs)]


@pytest.mark.parametrize("layer", [None, 1])
def test_bert_score_is_torchmetrics_pair_by_pair(bert: Path, answers: list[Any], layer: int | None) -> None:
    from torchmetrics.functional.text import bert_score
    from transformers import AutoModel, AutoTokenizer

    model, tokenizer = AutoModel.from_pretrained(bert), AutoTokenizer.from_pretrained(bert)

    def encoded(text: str) -> dict[str, torch.Tensor]:
        batch = tokenizer(text, return_tensors="pt")
        return {name: batch[name] for name in ("input_ids", "attention_mask")}

    figures = BertScore(bert, layer, "captions").measure(answers, Processes())
    for name in ("precision", "recall", "f1"):
        scores = figures[f"text/bert_score_{name}"].scores
        assert scores is not None and scores["set/2"] == 0  # nothing was said
        for place in (0, 1, 3, 4):
            theirs = [
                bert_score(encoded(REPLIES[place]), encoded(one), model=model, num_layers=layer)[name]
                for one in REFERENCES[place]
            ]
            assert scores[f"set/{place}"] == pytest.approx(max(map(float, theirs)), abs=1e-5)
    assert len(figures["text/bert_score_f1"].protocol["extractor"]) == 32


def test_bert_score_refuses_a_layer_that_is_not_there(bert: Path) -> None:
    with pytest.raises(ValueError, match="layer: found 3; expected 0 to 2"):
        BertScore(bert, 3)


@pytest.fixture(scope="module")
def detector(bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file in the form of FENSE's releases, with a random head."""
    from transformers import AutoModel

    state = {f"encoder.{name}": value for name, value in AutoModel.from_pretrained(bert).state_dict().items()}
    generator = torch.Generator().manual_seed(0)
    head = {"clf.weight": torch.randn(6, 12, generator=generator), "clf.bias": torch.zeros(6)}
    file = tmp_path_factory.mktemp("detector") / "echecker.ckpt"
    old = {"encoder.embeddings.position_ids": torch.arange(64)[None]}
    torch.save({"model_type": "tiny", "num_classes": 6, "state_dict": state | head | old}, file)
    return file


def test_fense_is_its_definition(bert: Path, detector: Path, answers: list[Any]) -> None:
    from sentence_transformers import SentenceTransformer
    from transformers import AutoModel, AutoTokenizer

    sentences = SentenceTransformer(str(bert), device="cpu")
    tokenizer, model = AutoTokenizer.from_pretrained(bert), AutoModel.from_pretrained(bert)
    head = torch.load(detector, weights_only=True)["state_dict"]
    with torch.no_grad():
        states = [model(**tokenizer(said, return_tensors="pt")).last_hidden_state[0, 0] for said in REPLIES]
    chances = [float(torch.sigmoid(state @ head["clf.weight"][-1])) for state in states]
    threshold = sum(sorted(chances)[1:3]) / 2
    figures = Fense(bert, detector, bert, "captions", threshold).measure(answers, Processes())
    for place, (said, own) in enumerate(zip(REPLIES, REFERENCES, strict=True)):
        like = float(sentences.similarity(sentences.encode([said]), sentences.encode(own)).mean())
        wrong = float(chances[place] > threshold)
        named = {"sentence_similarity": like, "fluency_errors": wrong, "fense": like * (1 - 0.9 * wrong)}
        for name, value in named.items():
            scores = figures[f"text/{name}"].scores
            assert scores is not None and scores[f"set/{place}"] == pytest.approx(value, abs=1e-5)
    errors = figures["text/fluency_errors"]
    assert errors.better == "lower" and errors.value == 3 / 5
    assert figures["text/fense"].protocol["penalty"] == 0.9


def test_fense_without_a_detector_is_likeness_alone(bert: Path, answers: list[Any]) -> None:
    assert list(Fense(bert, reference="captions").measure(answers, Processes())) == ["text/sentence_similarity"]


def test_fense_names_what_is_wrong(bert: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected both or neither"):
        Fense(bert, detector=tmp_path)
    broken = tmp_path / "broken.ckpt"
    broken.write_bytes(b"no")
    with pytest.raises(ValueError, match=r"broken\.ckpt: can't be read as weights"):
        Fense(bert, broken, bert).measure([answered("a", expected="b")], Processes())
    other = tmp_path / "other.ckpt"
    for state in ({"layer.weight": torch.ones(2)}, {"clf.weight": torch.ones(6, 12), "clf.bias": torch.ones(6)}):
        torch.save({"state_dict": state}, other)
        with pytest.raises(ValueError, match=r"other\.ckpt: found other weights .*expected the detector's file.*Fix"):
            Fense(bert, other, bert).measure([answered("a", expected="b")], Processes())
    with pytest.raises(ValueError, match="found no such folder"):
        Fense(tmp_path / "absent").measure([answered("a", expected="b")], Processes())
