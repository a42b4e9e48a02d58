"""Retrieval of a test run: real files, a tiny model, and the figures beside a computation one answer at a time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from tiny_captions import write_captioned
from tiny_manifest import records_of
from tiny_world import tiny_experts, tiny_model

from isthmus.data.conversations.schema import Conversation, Message, TextItem
from isthmus.data.formats.manifest import ManifestSource
from isthmus.data.module import ConversationDataModule
from isthmus.evaluation import RetrievalEvaluation
from isthmus.evaluation.retrieval.ranks import retrieval_report
from isthmus.evaluation.retrieval.similarities import ROWS, joint_similarity, likelihood_similarity
from isthmus.model import AnyToAny
from isthmus.training import TrainingModule
from isthmus.types import Modality


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_captioned(tmp_path_factory.mktemp("own") / "shapes", train=8, test=5)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> AnyToAny:
    """Without a text tower beside ImageBind's vision."""
    model = tiny_model(tiny_experts(tmp_path_factory.mktemp("experts")), outputs=(), max_tokens=1024).eval()
    model.configure_model()
    return model


@pytest.fixture(scope="module")
def embedded(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> AnyToAny:
    """The embedded ImageBind, whose text tower is there, before a tiny LLM."""
    paths = tiny_experts(tmp_path_factory.mktemp("others"))
    paths["imagebind"] = repository / "checkpoints" / "pocket" / "imagebind"
    model = tiny_model(paths, inputs=("image", "video"), outputs=(), max_tokens=1024).eval()
    model.configure_model()
    return model


def of(manifest: Path, modality: str, split: str = "test") -> list[Conversation]:
    source = ManifestSource(manifest, modalities=[modality], splits=[split])
    return [source[index] for index in range(len(source))]


@pytest.mark.parametrize("modality", [Modality.IMAGE, Modality.VIDEO, Modality.POINTS])
def test_likelihoods_equal_those_of_one_answer_at_a_time(model: AnyToAny, manifest: Path, modality: Modality) -> None:
    conversations = of(manifest, modality)
    captions = ["a red box", "ball", "something that is longer"]
    collator = model.collator()
    expected = torch.empty(len(conversations), len(captions))
    for row, conversation in enumerate(conversations):
        for column, caption in enumerate(captions):
            said = Conversation((*conversation.prompt().messages, Message("assistant", (TextItem(caption),))))
            with torch.no_grad():
                expected[row, column] = model.score(collator([said])).text
    expected -= expected.logsumexp(dim=0)
    found = likelihood_similarity(model, modality, conversations, captions)
    assert torch.allclose(found, expected, atol=1e-3, rtol=1e-4)
    assert torch.allclose(found.exp().sum(0), torch.ones(3), atol=1e-4)


@pytest.mark.parametrize("modality", [Modality.IMAGE, Modality.VIDEO])
def test_joint_similarity_is_the_cosine_of_the_towers(embedded: AnyToAny, manifest: Path, modality: Modality) -> None:
    conversations, captions = of(manifest, modality), ["a red seven", "a blue four"]
    found = joint_similarity(embedded, modality, conversations, captions)
    assert embedded.input_side is not None
    encoder = embedded.input_side.encoder(modality)
    batch = embedded.prompt_collator()(conversations)
    tokens = encoder(modality, batch.media[modality].inputs).tokens[:, 0]
    texts = encoder.encode_text(encoder.tokenize(captions))  # type: ignore[operator]
    assert torch.allclose(found, F.cosine_similarity(tokens[:, None], texts[None], dim=-1), atol=1e-5)


def test_captions_are_encoded_in_batches(embedded: AnyToAny, manifest: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    conversations, captions = of(manifest, Modality.IMAGE), [f"a red {number}" for number in range(ROWS + 3)]
    assert embedded.input_side is not None
    encoder: Any = embedded.input_side.encoder(Modality.IMAGE)
    encode, sizes = encoder.encode_text, []

    def counted(tokens: torch.Tensor) -> torch.Tensor:
        sizes.append(len(tokens))
        found: torch.Tensor = encode(tokens)
        return found

    monkeypatch.setattr(encoder, "encode_text", counted)
    found = joint_similarity(embedded, Modality.IMAGE, conversations, captions)
    assert found.shape == (len(conversations), ROWS + 3) and sizes == [ROWS, 3]
    last = joint_similarity(embedded, Modality.IMAGE, conversations, captions[-1:])
    assert torch.allclose(found[:, -1:], last, atol=1e-5)


def test_a_test_run_reports_both_judges(
    embedded: AnyToAny, manifest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    media = ManifestSource(manifest, modalities=["image", "video"], splits=["test"])
    training = ManifestSource(manifest, modalities=["image", "video"], splits=["train"])
    twin = str(of(manifest, "video")[0].details["id"])
    evaluation = RetrievalEvaluation(media, answers=3, training=training, twins=[twin])
    trainer = pl.Trainer(
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        callbacks=[evaluation],
        default_root_dir=tmp_path,
    )
    data = ConversationDataModule({}, test={"set": media}, batch_size=5)
    trainer.test(TrainingModule(embedded), datamodule=data, verbose=False)
    written = json.loads((tmp_path / "retrieval.json").read_text(encoding="utf-8"))
    protocol = written.pop("protocol")
    assert protocol["media"]["conversations"] == len(evaluation.media) and protocol["answers"] == evaluation.answers
    assert written == json.loads(json.dumps(evaluation.report)) and list(written) == ["image", "video"]
    for modality in (Modality.IMAGE, Modality.VIDEO):
        conversations = of(manifest, modality)
        captions = [str(one.details["caption"]) for one in conversations]
        cosines = joint_similarity(embedded, modality, conversations, captions)
        assert written[modality]["encoder"] == json.loads(json.dumps(retrieval_report(cosines, captions)))
        some, said = ([own[place] for place in (0, 1, 3)] for own in (conversations, captions))
        likely = likelihood_similarity(embedded, modality, some, said)
        assert written[modality]["model"] == json.loads(json.dumps(retrieval_report(likely, said)))
        known = {record["caption"] for record in records_of(manifest) if record["split"] == "train"}
        new = [one for one in conversations if one.details["caption"] not in known and one.details["id"] != twin]
        assert ("encoder, new" in written[modality]) == bool(new)
    assert "image -> caption, encoder" in capsys.readouterr().out


def test_without_a_text_tower_the_model_alone_judges(model: AnyToAny, manifest: Path) -> None:
    evaluation = RetrievalEvaluation(ManifestSource(manifest, splits=["test"]), answers=2)
    found = evaluation._measured(model, Modality.POINTS, of(manifest, "points"), None)
    assert list(found) == ["model"] and found["model"]["n"] == 2


def test_faults_are_named(model: AnyToAny, embedded: AnyToAny, manifest: Path, tmp_path: Path) -> None:
    source = ManifestSource(manifest, splits=["test"])
    with pytest.raises(ValueError, match="answers: found -1"):
        RetrievalEvaluation(source, answers=-1)
    trainer = pl.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, default_root_dir=tmp_path)
    with pytest.raises(ValueError, match="name: found nothing; expected a caption"):
        RetrievalEvaluation(source, reference="name").on_test_epoch_end(trainer, TrainingModule(model))
    with pytest.raises(ValueError, match="found points among its media; the model takes image, video"):
        RetrievalEvaluation(source, answers=0).on_test_epoch_end(trainer, TrainingModule(embedded))
    drawn = ManifestSource(manifest, splits=["test"], direction="draw")
    with pytest.raises(ValueError, match="found 0 media; expected one"):
        RetrievalEvaluation(drawn).on_test_epoch_end(trainer, TrainingModule(model))
