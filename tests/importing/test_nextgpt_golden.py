"""The first release of NExT-GPT, imported, gives what its own unmodified files gave."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tiny_nextgpt import write_tokenizer
from tiny_pipelines import write_pipeline
from tiny_world import IMAGEBIND

from isthmus.encoders.checkpoint import save_checkpoint
from isthmus.encoders.imagebind.model import ImageBindModel
from isthmus.importing.nextgpt_v1 import Source, import_nextgpt_v1
from isthmus.losses import alignment_loss
from isthmus.model import AnyToAny
from isthmus.training import LossWeights
from isthmus.training.objectives.terms import Terms
from isthmus.types import IGNORED, Batch, Features, MediaBatch, Modality, SignalBatch
from isthmus.vocabulary import MEDIA_POSITION

CASES = {
    "text_to_image": "image",
    "text_to_video": "video",
    "text_to_audio": "audio",
    "medium_to_text": None,
    "medium_to_image": "image",
}
CLOSE = {"rtol": 0.0, "atol": 1e-4}
BEGIN = [1, 4, 4, 4]
"""Begin token and filler ids of "### Human:", which the golden's `ids` leave out."""


@pytest.fixture(scope="module")
def golden(shared: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    facts = json.loads((shared / "golden" / "nextgpt_v1.json").read_text())
    return facts, load_file(shared / "golden" / "nextgpt_v1.safetensors")


@pytest.fixture(scope="module")
def imported(golden: Any, tmp_path_factory: pytest.TempPathFactory) -> AnyToAny:
    """The golden's checkpoint through the importer, opened as any bundle is."""
    facts, tensors = golden
    folder = tmp_path_factory.mktemp("nextgpt")
    state = {name.removeprefix("state."): own for name, own in tensors.items() if name.startswith("state.")}
    torch.save(state, folder / "pytorch_model.pt")
    write_base(folder / "vicuna", facts["llama_config"], tensors)
    config = replace(IMAGEBIND, out_embed_dim=facts["sizes"]["encoder_width"])
    save_checkpoint(folder / "imagebind", "imagebind", config, ImageBindModel(config).state_dict())
    for kind, shape in facts["sizes"]["conditions"].items():
        write_pipeline(kind, folder / kind, *shape)
    source = Source(
        folder / "pytorch_model.pt",
        folder / "vicuna",
        folder / "imagebind",
        {kind: folder / kind for kind in facts["sizes"]["conditions"]},
        facts["sizes"]["lora"]["alpha"],
    )
    return AnyToAny.from_checkpoint(import_nextgpt_v1(source, folder / "imported").bundle)


def write_base(folder: Path, config: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    llm = LlamaForCausalLM(LlamaConfig(**config))
    llm.load_state_dict({name.removeprefix("base."): own for name, own in tensors.items() if name.startswith("base.")})
    llm.save_pretrained(folder)
    write_tokenizer(folder, config["vocab_size"])


def batch_of(model: AnyToAny, tensors: dict[str, torch.Tensor], case: str, makes: str | None) -> Batch:
    """The golden's ids and targets as our batch, the medium's position and tags among them."""
    ids, given = tensors[f"{case}.ids"], f"{case}.features" in tensors
    vocabulary = model.backbone.language_model.vocabulary
    begin = [*BEGIN, *([vocabulary.tags(Modality.VIDEO)[0], MEDIA_POSITION] if given else [])]
    rows = torch.cat([torch.tensor([begin] * len(ids)), ids], 1)
    labels = tensors[f"{case}.targets"]
    assert rows.shape == labels.shape
    each, one = torch.arange(len(ids)), torch.ones(len(ids), dtype=torch.int64)
    media = {Modality.VIDEO: MediaBatch({}, each, one * (len(begin) - 1), one)} if given else {}
    signals = {}
    if makes:
        first = vocabulary.signal_ids(Modality(makes))[0]
        starts = (rows == first).nonzero()[:, 1]
        signals[Modality(makes)] = SignalBatch(each, starts, ["", ""], {}, torch.tensor([]), each)
    return Batch(rows, tensors[f"{case}.mask"].bool(), labels, media, signals)


@pytest.mark.parametrize("case", CASES)
def test_it_computes_what_the_release_does(golden: Any, imported: AnyToAny, case: str) -> None:
    facts, tensors = golden
    makes = CASES[case]
    model, language_model = imported, imported.backbone.language_model
    batch = model.backbone.language_model.laid_out(batch_of(model, tensors, case, makes))
    assert model.input_side is not None and model.output_side is not None
    features = {m: Features(tensors[f"{case}.features"][:, None], torch.ones(2, 1).bool()) for m in batch.media}
    with torch.no_grad():
        projected = model.input_side(batch.media, features)
        output = model.backbone(batch, projected)
        heard = model.output_side(output.signals)

    for states, _ in projected.values():
        torch.testing.assert_close(states, tensors[f"{case}.P"], **CLOSE)
    hidden = hidden_states(language_model, batch, projected)
    torch.testing.assert_close(hidden, tensors[f"{case}.last_hidden"], **CLOSE)
    torch.testing.assert_close(
        language_model.logits(hidden.flatten(0, 1)), tensors[f"{case}.logits"].flatten(0, 1), **CLOSE
    )

    count = int((batch.labels != IGNORED).sum())
    terms = Terms(output.text_loss, None, count)
    if makes:
        given = tensors[f"{case}.projector.states"] + tensors[f"{case}.projector.embeddings"]
        torch.testing.assert_close(output.signals[makes], given, **CLOSE)
        torch.testing.assert_close(heard[makes].tokens, tensors[f"{case}.projector.H"], **CLOSE)
        terms.alignment[makes] = alignment_loss(heard[makes].tokens, tensors[f"{case}.condition"], form="norm")
        assert float(terms.alignment[makes].mean()) == pytest.approx(facts["cases"][case]["alignment"], abs=1e-4)
    weights = LossWeights(alignment=1.0, alignment_form="norm")
    total = terms.total(weights, terms.counts())
    assert float(total) == pytest.approx(facts["cases"][case]["loss"], abs=1e-4)


@torch.no_grad()
def hidden_states(language_model: Any, batch: Batch, projected: Any) -> torch.Tensor:
    """(B, T, E) of the LLM, called by itself over what our batch embeds to."""
    embeddings = language_model.embed(batch.ids)
    for modality, (states, _) in projected.items():
        own = batch.media[modality]
        embeddings[own.rows, own.starts] = states[:, 0]
    hidden: torch.Tensor = language_model.llm.base_model(inputs_embeds=embeddings).last_hidden_state
    return hidden
