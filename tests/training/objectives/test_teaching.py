"""The P-Former in training: its objective and its pupils' against plain recomputations, and stages that use them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import supervised
import torch
from tiny_bert import write_bert
from tiny_world import SIGNALS, tiny_model

from isthmus.backbones import CausalBackbone
from isthmus.data.conversations.schema import Conversation, Message, TextItem
from isthmus.data.module import ConversationDataModule
from isthmus.encoders.imagebind.encoder import ImageBind
from isthmus.input_projectors import MLP, CrossAttention, PFormer, QFormer
from isthmus.input_projectors.p_former import contrastive_loss, vocabulary_loss
from isthmus.model import AnyToAny, Backbone, InputSide
from isthmus.pocket import tasks
from isthmus.training import LossWeights, Stage, StageSwitch, Supervised, TrainingModule
from isthmus.training.objectives.base import Learner
from isthmus.training.objectives.teaching import Teaching, imitate, lesson_of, teach
from isthmus.types import IGNORED, Batch, MediaBatch, Modality

TEXTS = ["a red seven", "two", "a tone, the five"]
IMAGE, VIDEO = Modality.IMAGE, Modality.VIDEO
POSITIONS = 3


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bert")
    write_bert(folder)
    return folder


def taught(experts: Mapping[str, Path], bert: Path, image: Any = None) -> AnyToAny:
    """A model of images and text whose Q-Former has a teacher."""
    bridge = image or partial(QFormer, queries=POSITIONS, width=8, layers=1, heads=2, feed_forward=8)
    side = InputSide(
        [ImageBind(experts["imagebind"], ("image",))],
        {"image": bridge},
        partial(PFormer, checkpoint=bert, positions=POSITIONS, feature_width=5),
    )
    model = AnyToAny(Backbone(CausalBackbone(experts["llama"], SIGNALS), 1024), side)
    model.configure_model()
    return model.requires_grad_(False).eval()


@pytest.fixture
def model(experts: dict[str, Path], bert: Path) -> AnyToAny:
    return taught(experts, bert)


def taught_by(teacher: PFormer, language_model: Any, texts: list[str]) -> Teaching:
    """What a teacher learns from these texts."""
    return teach(teacher, language_model, lesson_of(teacher, language_model, texts))


def talk(*texts: str) -> Conversation:
    """One exchange for each text."""
    turns = [turn for text in texts for turn in (Message("user", (TextItem("?"),)), _answer(text))]
    return Conversation(tuple(turns))


def _answer(text: str) -> Message:
    return Message("assistant", (TextItem(text),))


def test_a_batch_brings_the_words_of_the_trained_turns(model: AnyToAny) -> None:
    talks = [talk("one", "two"), talk("three")]
    assert model.collator()(talks).texts == ["one two", "three"]
    assert model.collator()(talks).to("cpu").texts == ["one two", "three"]
    assert model.prompt_collator()(talks).texts == ["", ""]


def test_teaching_is_the_sum_of_its_three_terms(model: AnyToAny) -> None:
    teacher, backbone = model.input_side.teacher, model.backbone.language_model
    found = taught_by(teacher, backbone, [TEXTS[0], "", *TEXTS[1:]])
    prompts, features = teacher(*teacher.tokenize(TEXTS))
    llm = backbone.llm
    torch.testing.assert_close(found.contrastive, 3 * contrastive_loss(features, teacher.temperature))
    words = llm.get_input_embeddings().weight
    torch.testing.assert_close(found.vocabulary, vocabulary_loss(prompts, words).sum())
    losses, tokens = [], 0
    for prompt, text in zip(prompts, TEXTS, strict=True):  # each text alone, through the LLM's own forward and loss
        ids = torch.tensor([*backbone.tokenizer(text, add_special_tokens=False)["input_ids"], 2])
        embedded = torch.cat([prompt, words[ids]])[None]
        labels = torch.cat([torch.full((POSITIONS,), IGNORED), ids])[None]
        scores = torch.cat([llm(inputs_embeds=embedded).logits, _starts(backbone, embedded)], -1)[0, :-1]
        losses.append(torch.nn.functional.cross_entropy(scores, labels[0, 1:], reduction="sum"))
        tokens += len(ids)
    torch.testing.assert_close(found.text, torch.stack(losses).sum(), rtol=1e-4, atol=1e-4)
    assert (int(found.texts), int(found.tokens)) == (3, tokens)
    weights = LossWeights(text=0.0, teaching=2.0)
    batch = Batch(*(torch.zeros(3, 1, dtype=torch.int64),) * 3, texts=TEXTS)
    expected = 2 * ((found.contrastive + found.vocabulary) / 3 + found.text / tokens)
    torch.testing.assert_close(supervised.loss(model, weights, batch), expected)


def _starts(backbone: Any, embedded: torch.Tensor) -> torch.Tensor:
    """Logits of the first signal tokens, which any text is told from too."""
    states = backbone.llm.base_model(inputs_embeds=embedded).last_hidden_state
    return states @ backbone.rows.run_starts.T


def test_teaching_reaches_the_teacher_and_nothing_else(model: AnyToAny) -> None:
    model.input_side.teacher.requires_grad_(True)
    supervised.loss(model, LossWeights(text=0.0, teaching=1.0), [talk(text) for text in TEXTS]).backward()
    reached = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert reached == {f"input_side.teacher.{name}" for name, _ in model.input_side.teacher.named_parameters()}
    model.zero_grad()
    empty = taught_by(model.input_side.teacher, model.backbone.language_model, ["", " "])
    assert int(empty.texts) == int(empty.tokens) == 0
    assert empty.contrastive == empty.vocabulary == empty.text == 0


def test_the_teacher_reads_and_the_llm_writes_no_more_than_is_allowed(model: AnyToAny) -> None:
    long = "x" * 100
    found = taught_by(model.input_side.teacher, model.backbone.language_model, [long, "y"])
    assert int(found.tokens) == model.input_side.teacher.max_tokens + 2
    cut = taught_by(model.input_side.teacher, model.backbone.language_model, [long + "z", "y"])
    torch.testing.assert_close(cut.text, found.text)


def test_imitation_is_the_distance_to_the_prompt_of_the_mediums_own_text(model: AnyToAny) -> None:
    torch.manual_seed(0)
    teacher = model.input_side.teacher.train()
    rows = torch.tensor([0, 1, 1, 3, 4])  # a second image in row 1; in row 4 no text
    blank = torch.zeros(5, 1, dtype=torch.int64)
    places = MediaBatch({}, rows, rows, rows)
    video = MediaBatch({}, torch.tensor([3, 2]), rows, rows)  # in row 3 it isn't alone
    batch = Batch(blank, blank, blank, {IMAGE: places, VIDEO: video}, texts=["a", "b", "c", "d", " "])
    mask = torch.ones(5, POSITIONS, dtype=torch.bool)
    states = torch.randn(5, POSITIONS, 16, requires_grad=True)
    moving = torch.randn(2, POSITIONS, 16, requires_grad=True)
    found = imitate(teacher, batch, {IMAGE: (states, mask), VIDEO: (moving, mask[:2])})
    assert teacher.training and int(found.media) == 2
    teacher.eval()
    prompts, _ = teacher(*teacher.tokenize(["a", "c"]))
    torch.testing.assert_close(found.distances[IMAGE], (states[0] - prompts[0]).square().mean(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found.distances[VIDEO], (moving[1] - prompts[1]).square().mean(), rtol=1e-4, atol=1e-5)
    teacher.requires_grad_(True)
    (found.distances[IMAGE] + found.distances[VIDEO]).backward()
    assert all(parameter.grad is None for parameter in teacher.parameters())
    assert states.grad is not None and states.grad[0].any() and not states.grad[1:].any()


def test_imitation_weighs_in_the_loss(model: AnyToAny) -> None:
    source = tasks.Describe(split="train", size=6, modalities=("image",))
    batch = model.collator()([source[i] for i in range(6)])
    plain = supervised.loss(model, LossWeights(), batch)
    weights = LossWeights(imitation=100.0)
    terms = supervised.terms(model, weights, batch)
    assert terms.imitation is not None and int(terms.imitation.media) == 6
    mean = terms.imitation.distances[IMAGE] / 6
    torch.testing.assert_close(terms.total(weights, terms.counts()), plain + 100 * mean)


def test_totals_of_processes_sum_to_the_whole_batchs(model: AnyToAny) -> None:
    """Text and vocabulary terms don't depend on the split; the contrastive one tells a process's own texts apart."""
    weights = LossWeights(text=0.0, teaching=1.0, imitation=1.0)
    source = tasks.Describe(split="train", size=6, modalities=("image",))
    talks = [source[i] for i in range(6)]
    whole, *parts = (supervised.terms(model, weights, own) for own in (talks, talks[:2], talks[2:]))
    counts = torch.stack([part.counts() for part in parts]).sum(0)
    torch.testing.assert_close(counts, whole.counts())
    for terms in (whole, *parts):
        terms.teaching.contrastive = terms.teaching.contrastive * 0
    total = sum(part.total(weights, counts) for part in parts)
    torch.testing.assert_close(total, whole.total(weights, counts), rtol=1e-4, atol=1e-5)


def test_what_sums_are_divided_by_is_counted_before_anything_is_computed(model: AnyToAny) -> None:
    """So that processes add their counts up while the device works."""
    order: list[Any] = []

    class Watched(Learner):
        def over_processes(self, counts: Sequence[int]) -> Callable[[], torch.Tensor]:
            order.append(list(counts))
            return super().over_processes(counts)

    assert model.input_side is not None and model.input_side.teacher is not None
    for module in (model, model.input_side.teacher):
        module.register_forward_pre_hook(lambda module, _: order.append(type(module)))
    weights = LossWeights(teaching=1.0, imitation=1.0)
    source = tasks.Describe(split="train", size=4, modalities=("image",))
    batch = model.collator()([*(source[i] for i in range(4)), talk("words alone")])
    outcome = Supervised().step(Watched(model, weights), batch)
    counts, *computed = order
    assert counts == supervised.terms(model, weights, batch).counts().tolist() and counts[3:] == [5, counts[4], 4, 0]
    assert computed[:3] == [PFormer, AnyToAny, PFormer] and outcome.loss.isfinite()


def test_a_batch_in_parts_has_the_whole_batchs_figures(model: AnyToAny) -> None:
    """But for the contrastive one, which tells a part's own texts apart."""
    weights = LossWeights(teaching=1.0, imitation=1.0)
    source = tasks.Describe(split="train", size=4, modalities=("image",))
    talks = [*(source[i] for i in range(4)), talk("words alone")]
    batches = model.collator()(talks), model.collator(micro_batches=3)(talks)
    whole, divided = (
        Supervised().step(Learner(model, weights, parts), b) for parts, b in zip((1, 3), batches, strict=True)
    )
    assert divided.shared.keys() == whole.shared.keys() and divided.counted.keys() == whole.counted.keys()
    for name in ("text_loss", "text_accuracy", "teaching_text", "teaching_vocabulary"):
        torch.testing.assert_close(divided.shared[name], whole.shared[name], rtol=1e-4, atol=1e-5)
    (gap, media), (own, own_media) = whole.counted["imitation_image"], divided.counted["imitation_image"]
    assert own_media == media == 4
    torch.testing.assert_close(own, gap, rtol=1e-4, atol=1e-5)


def test_faults_are_clear(experts: dict[str, Path], bert: Path) -> None:
    source = tasks.Describe(split="train", size=2, modalities=("image",))
    other = taught(experts, bert, partial(MLP, positions_per_token=2))
    with pytest.raises(ValueError, match=r"found 2 positions of image and 3 prompts"):
        supervised.terms(other, LossWeights(imitation=1.0), [source[0]])
    untaught = tiny_model(experts, ("image",), ())
    untaught.configure_model()
    with pytest.raises(ValueError, match="a weight on teaching or imitation, but no teacher"):
        supervised.terms(untaught, LossWeights(imitation=1.0), [source[0]])


def test_stages_teach_from_text_then_imitate_and_the_bundle_holds_both(
    experts: dict[str, Path], bert: Path, tmp_path: Path
) -> None:
    bridge = partial(CrossAttention, queries=POSITIONS, width=8, depth=1, heads=2)
    model = taught(experts, bert, bridge)
    optimizer = partial(torch.optim.AdamW, lr=5e-3)
    stages = {
        "teaching": Stage(["teacher"], LossWeights(text=0, teaching=1), {"text": 1}, steps=30, optimizer=optimizer),
        "imitation": Stage(
            ["input_projectors"], LossWeights(imitation=100), {"describe": 1}, steps=30, optimizer=optimizer
        ),
    }
    sources = {
        "text": tasks.TextOnly(split="train", size=200),
        "describe": tasks.Describe(split="train", size=200, modalities=("image",)),
    }
    losses: dict[str, list[float]] = {"teaching": [], "imitation": []}
    before = {part: {k: v.clone() for k, v in state.items()} for part, state in model.owned_state().items()}
    after_teaching: dict[str, Any] = {}

    class Watch(pl.Callback):
        def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
            losses[switch.name].append(float(outputs["loss"]))
            teaches = switch.name == "teaching"
            assert model.input_side.teacher.training == teaches == (not model.input_side.projector(IMAGE).training)
            if teaches:
                assert not model.input_side.encoder(IMAGE).is_loaded
                after_teaching.update({k: v.clone() for k, v in model.owned_state()["teacher"].items()})

    switch = StageSwitch(stages, None, tmp_path)
    pl.Trainer(
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        reload_dataloaders_every_n_epochs=1,
        use_distributed_sampler=False,
        callbacks=[switch, Watch()],
    ).fit(TrainingModule(model), datamodule=ConversationDataModule(sources, batch_size=8, seed=5))
    for values in losses.values():
        assert len(values) == 30 and sum(values[-5:]) < 0.9 * sum(values[:5])
    state = model.owned_state()
    assert all(torch.equal(state["teacher"][name], after_teaching[name]) for name in after_teaching)
    assert not torch.equal(state["teacher"]["split.weight"], before["teacher"]["split.weight"])
    assert not torch.equal(state["input_projectors.image"]["queries"], before["input_projectors.image"]["queries"])
    again = taught(experts, bert, bridge)
    again.load_owned_state(state)
    torch.testing.assert_close(again.owned_state(), state, rtol=0, atol=0)
    alone = AnyToAny(
        Backbone(CausalBackbone(experts["llama"], SIGNALS), 1024),
        InputSide([ImageBind(experts["imagebind"], ("image",))], {"image": bridge}),
    )
    alone.configure_model()
    alone.load_owned_state(state)
    torch.testing.assert_close(alone.owned_state(), {k: v for k, v in state.items() if k != "teacher"}, rtol=0, atol=0)
