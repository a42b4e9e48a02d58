"""The training forward of a causal backbone, against Hugging Face's own loss and states."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from transformers import AutoModelForCausalLM

from isthmus.backbones import CausalBackbone
from isthmus.types import IGNORED, Batch, Modality
from isthmus.vocabulary import MEDIA_POSITION

Build = Callable[..., CausalBackbone]
FAMILIES = ["llama", "qwen2", "qwen3", "opt", "opt-350m", "glm", "cohere", "gemma2"]


@pytest.mark.parametrize("family", FAMILIES)
def test_text_loss_equals_hugging_faces_own(family: str, build: Build, kit: Any, llm_folder: Any) -> None:
    backbone, reference = build(family), AutoModelForCausalLM.from_pretrained(llm_folder(family))
    with torch.no_grad():
        backbone.rows.run_starts.zero_()
    batch = kit["text_batch"]([9, 5, 7])
    theirs = reference(input_ids=batch.ids, attention_mask=batch.mask.long())
    logits = theirs.logits[:, :-1][batch.labels[:, 1:] != IGNORED]
    labels = batch.labels[:, 1:][batch.labels[:, 1:] != IGNORED]
    # Our head has a column more for each modality's first signal token; zero rows give them a logit of zero.
    expected = F.cross_entropy(torch.cat([logits, logits.new_zeros(len(logits), 4)], -1), labels, reduction="sum")

    output = backbone(batch, {})

    torch.testing.assert_close(output.text_loss, expected, rtol=1e-5, atol=1e-5)
    likeliest = torch.cat([logits, logits.new_zeros(len(logits), 4)], -1).argmax(-1)
    assert output.correct is not None and torch.equal(output.correct, likeliest == labels)
    with_labels = reference(input_ids=batch.ids, attention_mask=batch.mask.long(), labels=batch.labels).loss
    torch.testing.assert_close(F.cross_entropy(logits, labels), with_labels)


def recompute(backbone: CausalBackbone, batch: Batch, media: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Embeddings and final states, position by position in plain Python and through the whole model of transformers."""
    base = backbone.llm.get_input_embeddings()(torch.arange(backbone.vocabulary.base_size))
    table = torch.cat([base, backbone.rows.media_tags, backbone.rows.signal_rows])
    embeddings = table[batch.ids.clamp(min=0)]
    for modality, places in batch.media.items():
        projected, mask = media[modality]
        for index, (row, start) in enumerate(zip(places.rows.tolist(), places.starts.tolist(), strict=True)):
            valid = projected[index][mask[index]]
            embeddings[row, start : start + len(valid)] = valid
    output = backbone.llm(inputs_embeds=embeddings, attention_mask=batch.mask.long(), output_hidden_states=True)
    return embeddings, output.hidden_states[-1]


@pytest.mark.parametrize("family", FAMILIES)
def test_states_and_loss_equal_a_plain_recomputation(family: str, build: Build, kit: Any) -> None:
    backbone = kit["awaken"](build(family, lora=kit["lora"]()))
    batch, media = kit["conversation_batch"](backbone)
    output = backbone(batch, media)
    with torch.no_grad():
        embeddings, hidden = recompute(backbone, batch, media)

    for modality, runs in batch.signals.items():
        count = backbone.vocabulary.signal_counts[modality]
        for index, (row, start) in enumerate(zip(runs.rows.tolist(), runs.starts.tolist(), strict=True)):
            expected = hidden[row, start : start + count] + embeddings[row, start : start + count]
            torch.testing.assert_close(output.signals[modality][index], expected, rtol=1e-4, atol=1e-5)

    starts = list(backbone.vocabulary.starts())
    loss, hits, run_labels = torch.zeros(()), [], 0
    for row, place in (batch.labels != IGNORED).nonzero().tolist():
        label = int(batch.labels[row, place])
        column = backbone.vocabulary.base_size + starts.index(label) if label in starts else label
        run_labels += label in starts
        logits = backbone.logits(hidden[row : row + 1, place - 1])[0]
        assert logits.shape == (backbone.vocabulary.base_size + 4,)
        loss += F.cross_entropy(logits, torch.tensor(column))
        hits.append(bool(logits.argmax() == column))
    assert run_labels == 3
    torch.testing.assert_close(output.text_loss, loss, rtol=1e-4, atol=1e-4)
    assert output.correct is not None and output.correct.tolist() == hits


def split(batch: Batch, media: Any, row: int) -> tuple[Batch, Any]:
    """One row of a batch, without its padding."""
    length = int(batch.mask[row].sum())
    kept, projected = {}, {}
    for modality, places in batch.media.items():
        mine = places.rows == row
        if mine.any():
            kept[modality] = replace(
                places, rows=places.rows[mine] * 0, starts=places.starts[mine], lengths=places.lengths[mine]
            )
            projected[modality] = tuple(tensor[mine] for tensor in media[modality])
    signals = {
        modality: replace(runs, rows=runs.rows[runs.rows == row] * 0, starts=runs.starts[runs.rows == row])
        for modality, runs in batch.signals.items()
        if (runs.rows == row).any()
    }
    crop = (slice(row, row + 1), slice(0, length))
    return Batch(batch.ids[crop], batch.mask[crop], batch.labels[crop], kept, signals), projected


@pytest.mark.parametrize("family", ["llama", "opt"])
def test_padding_changes_nothing(family: str, build: Build, kit: Any) -> None:
    backbone = build(family)
    batch, media = kit["conversation_batch"](backbone)
    together = backbone(batch, media)
    alone = [backbone(*split(batch, media, row)) for row in range(2)]
    torch.testing.assert_close(together.text_loss, alone[0].text_loss + alone[1].text_loss, rtol=1e-5, atol=1e-5)
    image, audio = Modality.IMAGE, Modality.AUDIO
    torch.testing.assert_close(together.signals[image], alone[0].signals[image], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(together.signals[audio], alone[1].signals[audio], rtol=1e-4, atol=1e-5)


def test_nothing_but_owned_parts_has_gradients(build: Build, kit: Any) -> None:
    backbone = kit["awaken"](build(lora=kit["lora"]()))
    batch, media = kit["conversation_batch"](backbone)
    output = backbone(batch, media)
    (output.text_loss + sum(states.sum() for states in output.signals.values())).backward()
    owned = [parameter for parameters in backbone.parts().values() for parameter in parameters]
    assert {id(parameter) for parameter in owned} == {id(p) for p in backbone.parameters() if p.requires_grad}
    assert all(parameter.grad is not None for parameter in owned)
    assert all(parameter.grad is None for parameter in backbone.parameters() if not parameter.requires_grad)
    # Only the rows of tokens that occurred move.
    seen = {
        int(token) - backbone.vocabulary.base_size for token in batch.ids[batch.ids >= backbone.vocabulary.base_size]
    }
    moved = torch.cat([backbone.rows.media_tags.grad, backbone.rows.signal_rows.grad]).abs().sum(1).nonzero()
    assert set(moved.flatten().tolist()) == seen


def test_rows_have_a_gradient_even_where_the_batch_holds_none_of_them(build: Build, kit: Any) -> None:
    backbone = build()
    backbone(kit["text_batch"]([6, 4]), {}).text_loss.backward()
    assert all(parameter.grad is not None for parameter in backbone.rows.parameters())
    assert backbone.rows.media_tags.grad.abs().max() == 0


def test_the_frozen_llm_stays_in_eval_mode_and_lora_dropout_follows_its_training(build: Build, kit: Any) -> None:
    backbone = kit["awaken"](build("opt", lora=kit["lora"](dropout=0.5)))
    batch, media = kit["conversation_batch"](backbone)
    backbone.train()
    assert not any(module.training for module in backbone.llm.modules())
    losses = [backbone(batch, media).text_loss.item() for _ in range(2)]
    assert losses[0] != losses[1]
    for parameter in backbone.parts()["lora"]:
        parameter.requires_grad_(False)
    frozen = [backbone(batch, media).text_loss.item() for _ in range(2)]
    assert frozen[0] == frozen[1] == backbone.eval()(batch, media).text_loss.item()


def test_a_half_precision_llm_keeps_float32_owned_parts(build: Build, kit: Any) -> None:
    backbone = build(dtype="bfloat16", lora=kit["lora"]())
    batch, media = kit["conversation_batch"](backbone)
    output = backbone(batch, media)
    output.text_loss.backward()
    assert backbone.llm.get_input_embeddings().weight.dtype == torch.bfloat16
    assert all(parameter.dtype == torch.float32 for part in backbone.parts().values() for parameter in part)
    reference = build(lora=kit["lora"]())(batch, media).text_loss
    torch.testing.assert_close(output.text_loss, reference, rtol=0.05, atol=0.0)


# Faults


def test_media_positions_must_match_what_was_projected(build: Build, kit: Any) -> None:
    backbone = build()
    batch, media = kit["conversation_batch"](backbone)
    image = Modality.IMAGE
    projected, mask = media[image]
    fewer = media | {image: (projected, mask & torch.tensor([True, True, False]))}
    with pytest.raises(ValueError, match=r"batch.media.image: found 5 media positions for 4 projected rows"):
        backbone(batch, fewer)
    with pytest.raises(ValueError, match=r"batch.media.image: found 2 media, but 1 were projected"):
        backbone(batch, media | {image: (projected[:1], mask[:1])})
    with pytest.raises(
        ValueError, match=r"found image, audio, but features were projected for image; expected the same"
    ):
        backbone(batch, {image: media[image]})
    shifted = replace(
        batch, media=batch.media | {image: replace(batch.media[image], starts=batch.media[image].starts + 1)}
    )
    with pytest.raises(ValueError, match="out of place"):
        backbone(shifted, media)
    stray = replace(batch, ids=batch.ids.clone())
    stray.ids[0, 0] = MEDIA_POSITION
    with pytest.raises(ValueError, match="found 8 media positions for 7 projected rows"):
        backbone(stray, media)


def test_runs_labels_ids_and_padding_are_checked(build: Build, kit: Any) -> None:
    backbone = build()
    batch, media = kit["conversation_batch"](backbone)
    audio = Modality.AUDIO
    runs = replace(batch.signals[audio], starts=batch.signals[audio].starts + 1)
    with pytest.raises(ValueError, match=r"batch.signals.audio: found runs that don't stand"):
        backbone(replace(batch, signals=batch.signals | {audio: runs}), media)
    labels = batch.labels.clone()
    labels[0, 4] = backbone.vocabulary.signal_ids(Modality.VIDEO)[1]
    with pytest.raises(ValueError, match=r"batch.labels: found 1 labels that can't be predicted"):
        backbone(replace(batch, labels=labels), media)
    labels = batch.labels.clone()
    labels[0, 0] = 7
    with pytest.raises(ValueError, match=r"batch.labels: found 1 .* after the first position"):
        backbone(replace(batch, labels=labels), media)
    ids = batch.ids.clone()
    ids[0, 0] = backbone.vocabulary.size
    with pytest.raises(ValueError, match=r"batch.ids: found 1 ids outside the vocabulary"):
        backbone(replace(batch, ids=ids), media)
    mask = batch.mask.clone()
    mask[0, 0] = False
    with pytest.raises(ValueError, match="padded elsewhere than on the right"):
        backbone(replace(batch, mask=mask), media)
