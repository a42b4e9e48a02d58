"""The whole forward against a plain reading of each conversation by itself, and what a model is composed of."""

from __future__ import annotations

from collections import Counter
from functools import partial
from typing import Any

import numpy as np
import pytest
import supervised
import torch
from model.talks import caption, insist, mixed, read, talk

from isthmus.backbones.base import Sampling
from isthmus.data.errors import DataError
from isthmus.model import AnyToAny
from isthmus.training import LossWeights, Stage, TrainingModule
from isthmus.types import Condition, Modality

IMAGE, VIDEO, AUDIO = Modality.IMAGE, Modality.VIDEO, Modality.AUDIO
EVERYTHING = LossWeights(text=0.5, alignment=2.0, denoising=0.25, modalities={"image": 3.0, "audio": 0.5})


def forward(model: AnyToAny, conversations: Any, weights: LossWeights) -> Any:
    return supervised.terms(model, weights, conversations)


def test_text_terms_are_each_conversations_own(model: AnyToAny) -> None:
    terms = forward(model, mixed(), LossWeights())
    readings = [read(model, conversation) for conversation in mixed()]
    torch.testing.assert_close(terms.text, sum(r.text for r in readings), rtol=1e-4, atol=1e-3)
    assert int(terms.correct) == sum(r.correct for r in readings)
    assert int(terms.tokens) == sum(r.tokens for r in readings)
    assert terms.counts().tolist() == [sum(r.tokens for r in readings), *[0] * 6]


def test_called_are_the_runs_whose_first_token_is_likeliest(model: AnyToAny) -> None:
    conversations = [talk(["draw", ("image", 3)], [word, ("image", 1), ("audio", 1)]) for word in ("a", "so", "it")]
    one, other, *_ = [read(model, conversation).runs[0].before for conversation in conversations]
    # Final states are normed, so a row along their difference answers to the one and not to the other.
    model.backbone.language_model.rows.run_starts.data[0] = 100 * (one - other)
    runs = [run for conversation in conversations for run in read(model, conversation).runs]
    expected = {modality: [run.is_called for run in runs if run.modality is modality] for modality in (IMAGE, AUDIO)}
    assert expected[IMAGE][:2] == [True, False]
    found = forward(model, conversations, LossWeights()).called
    for modality, calls in expected.items():
        assert found.pop(modality).tolist() == [sum(calls), 3]
    assert not found


@pytest.mark.parametrize("form", ["mse", "norm"])
def test_alignment_is_the_distance_to_the_generators_own_condition(model: AnyToAny, form: Any) -> None:
    terms = forward(model, mixed(), LossWeights(alignment=1.0, alignment_form=form))
    assert model.output_side is not None
    captions = {IMAGE: [7, 2, 9], AUDIO: [5], VIDEO: [2]}
    runs = [run for conversation in mixed() for run in read(model, conversation).runs]
    assert terms.alignment.keys() == captions.keys() and not terms.denoising
    for modality, digits in captions.items():
        states = torch.stack([run.states for run in runs if run.modality is modality])
        projected = model.output_side.projectors[modality](states)
        generator = model.output_side.generator(modality)
        targets = generator.condition([caption(modality, digit) for digit in digits]).tokens
        gaps = projected - targets
        expected = gaps.pow(2).mean((1, 2)) if form == "mse" else gaps.pow(2).sum(2).sqrt().mean(1)
        torch.testing.assert_close(terms.alignment[modality], expected, rtol=1e-4, atol=1e-5)
        lengths = projected.flatten(1).norm(dim=1) * targets.flatten(1).norm(dim=1)
        cosines = (projected * targets).sum((1, 2)) / lengths
        torch.testing.assert_close(terms.cosine[modality], cosines.sum(), rtol=1e-4, atol=1e-4)
        assert not terms.cosine[modality].requires_grad and terms.alignment[modality].requires_grad
    assert terms.counts().tolist() == [terms.tokens, 5, *[0] * 5]


def test_denoising_is_each_contents_own_and_only_where_there_is_one(model: AnyToAny) -> None:
    conversations = [*mixed(), talk(["draw"], [("image", 6)], seed=7)]
    batch = model.collator(contents=True)(conversations)
    terms = supervised.terms(model, LossWeights(denoising=1.0), batch)
    assert {m: len(values) for m, values in terms.denoising.items()} == {IMAGE: 3, AUDIO: 1}
    assert batch.signals[IMAGE].content_runs.tolist() == [0, 1, 3], "the third image brings no file"
    assert not terms.alignment
    assert model.output_side is not None
    for modality, errors in terms.denoising.items():
        runs = batch.signals[modality]
        output = model.backbone(batch, model.input_side(batch.media))
        heard = model.output_side.projectors[modality](output.signals[modality])
        for index, run in enumerate(runs.content_runs.tolist()):
            content = {name: tensor[index : index + 1] for name, tensor in runs.contents.items()}
            alone = model.output_side.generator(modality).denoising_loss(
                content, Condition(heard[run : run + 1]), runs.seeds[run : run + 1]
            )
            torch.testing.assert_close(errors[index], alone[0], rtol=1e-4, atol=1e-5)
    assert terms.counts().tolist() == [terms.tokens, 0, 4, *[0] * 4]


def test_the_loss_weighs_terms_and_modalities(model: AnyToAny) -> None:
    terms = forward(model, mixed(), EVERYTHING)
    aligned = 3.0 * terms.alignment[IMAGE].sum() + 0.5 * terms.alignment[AUDIO].sum() + terms.alignment[VIDEO].sum()
    noise = 3.0 * terms.denoising[IMAGE].sum() + 0.5 * terms.denoising[AUDIO].sum()
    expected = 0.5 * terms.text / terms.tokens + 2.0 * aligned / 5 + 0.25 * noise / 3
    torch.testing.assert_close(terms.total(EVERYTHING, terms.counts()), expected)


def test_the_loss_does_not_depend_on_how_the_batch_is_split(model: AnyToAny) -> None:
    whole = forward(model, mixed(), EVERYTHING)
    for parts in ([mixed()[:1], mixed()[1:]], [mixed()[2:3], mixed()[:2], mixed()[3:]]):
        own = [forward(model, part, EVERYTHING) for part in parts]
        counts = torch.stack([terms.counts() for terms in own]).sum(0)
        assert torch.equal(counts, whole.counts())
        total = sum(terms.total(EVERYTHING, counts) for terms in own)
        torch.testing.assert_close(total, whole.total(EVERYTHING, whole.counts()), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("weights", "projects", "conditions", "denoises"),
    [
        (LossWeights(), set(), set(), set()),
        (LossWeights(alignment=1.0), {IMAGE, VIDEO, AUDIO}, {IMAGE, VIDEO, AUDIO}, set()),
        (LossWeights(text=0.0, denoising=1.0), {IMAGE, VIDEO, AUDIO}, set(), {IMAGE, AUDIO}),
        (LossWeights(alignment=1.0, denoising=1.0, modalities={"image": 0.0}), {VIDEO, AUDIO}, {VIDEO, AUDIO}, {AUDIO}),
    ],
)
def test_what_weighs_nothing_is_not_computed(
    model: AnyToAny, weights: LossWeights, projects: Any, conditions: Any, denoises: Any
) -> None:
    side = model.output_side
    assert side is not None
    calls: dict[str, Counter[str]] = {name: Counter() for name in ("projector", "text_encoder", "unet")}

    def count(kind: str, modality: str, *_: Any) -> None:
        calls[kind][modality] += 1

    for modality in model.outputs:
        side.projectors[modality].register_forward_hook(partial(count, "projector", modality))
        generator: Any = side.generator(modality)
        generator.load()
        generator.text_encoder.register_forward_hook(partial(count, "text_encoder", modality))
        generator.unet.register_forward_hook(partial(count, "unet", modality))
    batch = model.collator(contents=True)(mixed())  # brings contents, whatever is weighed
    terms = supervised.terms(model, weights, batch)
    assert calls["projector"] == dict.fromkeys(projects, 1)
    assert set(calls["text_encoder"]) == conditions == set(terms.alignment)
    assert calls["unet"] == dict.fromkeys(denoises, 1) and terms.denoising.keys() == denoises


def test_a_stage_loads_only_what_its_terms_need(model: AnyToAny) -> None:
    assert model.output_side is not None
    generators: list[Any] = [model.output_side.generator(modality) for modality in model.outputs]
    forward(model, mixed(), LossWeights())
    assert not any(generator.conditioner_is_loaded or generator.denoiser_is_loaded for generator in generators)
    forward(model, mixed(), LossWeights(alignment=1.0))
    assert all(generator.conditioner_is_loaded and not generator.denoiser_is_loaded for generator in generators)
    without = forward(model, [talk([("audio", 1)], ["a tone"])], LossWeights())
    assert not without.called and int(without.tokens) > 0


def test_gradients_reach_what_is_owned_and_nothing_frozen(model: AnyToAny) -> None:
    terms = forward(model, mixed(), EVERYTHING)
    terms.total(EVERYTHING, terms.counts()).backward()
    owned = {id(parameter) for _, parameter in model.named_owned()}
    for name, parameter in model.named_parameters():
        assert parameter.requires_grad == (id(parameter) in owned), name
        assert id(parameter) in owned or parameter.grad is None, name
    moved = {
        part.split(".")[0]
        for part, parameters in model.parts().items()
        if any(p.grad is not None and p.grad.abs().sum() > 0 for p in parameters.values())
    }
    assert moved == {"input_projectors", "output_projectors", "media_tags", "signal_rows", "lora"}


# What a model is composed of


def test_initial_values_come_from_the_models_seed_alone(build: Any) -> None:
    torch.manual_seed(1)
    first = build(seed=5)
    torch.manual_seed(2)
    before = torch.get_rng_state()
    again, other = build(seed=5), build(seed=6)
    assert torch.equal(torch.get_rng_state(), before), "building draws from nobody else's randomness"
    same = [torch.equal(again.state_dict()[name], tensor) for name, tensor in first.state_dict().items()]
    assert all(same)
    assert any(not torch.equal(other.state_dict()[name], tensor) for name, tensor in first.state_dict().items())
    projectors = dict(first.input_side.projectors)
    first.configure_model()
    assert dict(first.input_side.projectors) == projectors, "a second call builds nothing anew"


@pytest.mark.parametrize(
    ("inputs", "outputs"),
    [((), ()), (("image",), ()), ((), ("audio",)), (("points",), ("image",)), (("audio", "video"), ("video", "image"))],
)
def test_any_subset_of_media_trains_and_answers(build: Any, inputs: Any, outputs: Any) -> None:
    model = build(inputs=inputs, outputs=outputs)
    assert tuple(model.inputs) == inputs and tuple(model.outputs) == outputs
    conversations = [
        talk(["what? ", *[(name, 3) for name in inputs]], ["so: ", *[(name, 4) for name in outputs]]),
        talk(["hi"], ["hi"]),
    ]
    weights = LossWeights(alignment=1.0, denoising=1.0)
    terms = forward(model, conversations, weights)
    assert set(terms.alignment) == set(terms.denoising) == set(terms.called) == set(outputs)
    loss = terms.total(weights, terms.counts())
    loss.backward()
    assert torch.isfinite(loss)
    idle = [
        part
        for part, own in model.parts().items()
        if "projectors" in part and any(p.grad is None for p in own.values())
    ]
    assert not idle
    replies = model.answer(model.prompts(conversations), Sampling(max_new_tokens=3), [list(model.outputs), []])
    assert [piece.modality for piece in replies[0].media()] == list(outputs)


@pytest.mark.parametrize(
    ("inputs", "outputs", "conversation", "message"),
    [
        ((), (), talk([("image", 1)], ["one"]), "found image as input; this model's inputs are text"),
        (("image",), (), talk([("image", 1), ("audio", 1)], ["one"]), "found audio as input; .* are text, image"),
        (("image",), (), talk(["draw"], [("image", 1)]), "found image as output; this model's outputs are text"),
        ((), ("audio",), talk(["draw"], [("image", 1)]), "found image as output; .* are text, audio. Fix: give"),
    ],
)
def test_a_medium_that_is_not_served_is_one_clear_error(
    build: Any, inputs: Any, outputs: Any, conversation: Any, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        build(inputs=inputs, outputs=outputs).collator()([conversation])


def test_a_batch_of_another_models_media_is_refused(build: Any, model: AnyToAny) -> None:
    batch = model.collator()([talk([("image", 1), ("audio", 2)], ["three"])])
    with pytest.raises(ValueError, match=r"found audio; its encoders serve image: give it an encoder and a projector"):
        build(inputs=("image",))(batch)
    with pytest.raises(ValueError, match=r"batch.media: found image, audio, but features were projected for none"):
        build(inputs=())(batch)


def test_batches_bring_denoising_targets_only_where_they_are_trained_on(model: AnyToAny) -> None:
    conversations = mixed()[:1]
    module = TrainingModule(model, Stage(["lora"], LossWeights(alignment=1.0), steps=1))
    assert not module.collator("train")(conversations).signals[IMAGE].contents
    module = TrainingModule(model, Stage(["lora"], LossWeights(denoising=0.1), steps=1))
    contents = module.collator("validation")(conversations).signals[IMAGE].contents
    assert contents and all(len(tensor) == 2 for tensor in contents.values())
    prompts = model.prompt_collator()(conversations)
    assert not prompts.signals and prompts.target_count == 0 and prompts.ids.shape[1] < 200


def test_a_test_step_answers_by_each_samples_seed(build: Any) -> None:
    model = build(inputs=(), outputs=("image",))
    model.sampling = Sampling(max_new_tokens=2)
    conversations = [talk(["draw"], ["x"], seed=seed) for seed in (2**40 + 3, 5)]
    insist(model, conversations[0], "image")
    replies = TrainingModule(model).test_step(model.prompts(conversations), 0)
    same = model.answer(model.prompts(conversations[::-1]), seeds=[5, 3])[::-1]
    for reply, expected in zip(replies, same, strict=True):
        (mine,), (theirs,) = reply.media(), expected.media()
        assert mine.details == theirs.details and np.array_equal(mine.array, theirs.array)
    assert not np.array_equal(replies[0].media()[0].array, replies[1].media()[0].array)


def test_without_a_stage_there_is_no_optimizer(model: AnyToAny) -> None:
    with pytest.raises(ValueError, match=r"no stage; expected one before training\. Add the StageSwitch callback"):
        TrainingModule(model).configure_optimizers()


def test_the_optimizer_holds_what_trains_alone(model: AnyToAny) -> None:
    model.requires_grad_(False)
    wanted = list(model.parts()["output_projectors.image"].values())
    for parameter in wanted:
        parameter.requires_grad_(True)
    stage = Stage(["output_projectors.image"], steps=4, optimizer=partial(torch.optim.SGD, lr=0.1))
    module = TrainingModule(model, stage)
    optimizer = module.configure_optimizers()
    held = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    assert {id(p) for p in held} == {id(p) for p in wanted} and len(held) == len(wanted)
    module.enter(stage, "drawing", 4)
    configured = module.configure_optimizers()
    assert configured["lr_scheduler"]["interval"] == "step"
    assert configured["lr_scheduler"]["scheduler"].optimizer is configured["optimizer"]
