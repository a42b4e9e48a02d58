"""S -> H -> media: the right projector and generator, targets that are computed once, and media by their seeds."""

from __future__ import annotations

import gc
import weakref
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from model.talks import medium
from tiny_world import SIGNALS, tiny_model

from isthmus.generators.image.stable_diffusion import StableDiffusion
from isthmus.generators.residency import Residency
from isthmus.model import OutputSide
from isthmus.output_projectors import MLP
from isthmus.types import Condition, Modality, SignalBatch

IMAGE, VIDEO, AUDIO = Modality.IMAGE, Modality.VIDEO, Modality.AUDIO
E = 16


@pytest.fixture
def side(experts: dict[str, Path]) -> OutputSide:
    side = tiny_model(experts).output_side
    assert side is not None
    side.build(E, {Modality(name): count for name, count in SIGNALS.items()})
    return side


def states(modality: Modality, runs: int) -> torch.Tensor:
    return torch.randn(runs, SIGNALS[modality], E, generator=torch.Generator().manual_seed(3))


def test_states_meet_their_own_projector_and_fit_its_generator(side: OutputSide) -> None:
    heard = side({AUDIO: states(AUDIO, 3), VIDEO: states(VIDEO, 1), IMAGE: states(IMAGE, 2)})
    assert list(heard) == [AUDIO, VIDEO, IMAGE]
    for modality, projected in heard.items():
        assert projected.tokens.shape == (len(projected), *side.generator(modality).condition_shape)
        assert projected.pooled is None
        for row, state in enumerate(states(modality, len(projected))):
            alone = side.projectors[modality](state[None])[0]
            torch.testing.assert_close(projected.tokens[row], alone, rtol=1e-4, atol=1e-5)
    assert side({}) == {}


def test_targets_are_the_generators_conditions_each_encoded_once(side: OutputSide) -> None:
    generator: Any = side.generator(IMAGE)
    generator.load_conditioner()
    encoded: list[int] = []
    generator.text_encoder.register_forward_hook(lambda module, inputs, output: encoded.append(len(output[0])))
    first = side.target(IMAGE, ["a cat", "a dog", "a cat"]).tokens
    assert sum(encoded) == 2 and torch.equal(first[0], first[2]) and not torch.equal(first[0], first[1])
    with torch.inference_mode():
        again = side.target(IMAGE, ["a dog", "a bird"]).tokens
    assert sum(encoded) == 3 and torch.equal(again[0], first[1])
    side.target(IMAGE, ["a bird", "a dog", "a cat"] * 3)
    assert sum(encoded) == 3 and not first.requires_grad and not side.generator(AUDIO).is_loaded
    plain = generator.tokenizer(["a dog"], padding="max_length", return_tensors="pt")
    with torch.no_grad():
        expected = generator.text_encoder(plain.input_ids).last_hidden_state
    torch.testing.assert_close(first[1:2], expected)
    assert not generator.denoiser_is_loaded, "alignment needs the conditioner alone"


def test_denoising_meets_the_runs_that_bring_a_medium(side: OutputSide) -> None:
    generator = side.generator(IMAGE)
    prepared = [side.preparers()[IMAGE](medium("image", digit)) for digit in (4, 8)]
    runs = SignalBatch(
        rows=torch.zeros(3, dtype=torch.int64),
        starts=torch.zeros(3, dtype=torch.int64),
        captions=["four", "nothing", "eight"],
        contents={name: torch.stack([one[name] for one in prepared]) for name in prepared[0]},
        content_runs=torch.tensor([0, 2]),
        seeds=torch.tensor([11, 12, 13]),
    )
    heard = side({IMAGE: states(IMAGE, 3)})[IMAGE].tokens.detach().requires_grad_()
    errors = side.denoising(IMAGE, Condition(heard), runs)
    assert errors.shape == (2,)
    for index, (run, seed) in enumerate(((0, 11), (2, 13))):
        content = {name: tensor[None] for name, tensor in prepared[index].items()}
        alone = generator.denoising_loss(content, Condition(heard[run : run + 1]), torch.tensor([seed]))
        torch.testing.assert_close(errors[index : index + 1], alone, rtol=1e-4, atol=1e-5)
    errors.sum().backward()
    assert heard.grad is not None
    assert [bool(row.abs().sum() > 0) for row in heard.grad] == [True, False, True]


@pytest.mark.parametrize("modality", [IMAGE, VIDEO, AUDIO])
def test_a_seed_gives_its_medium_whoever_else_is_made(side: OutputSide, modality: Modality) -> None:
    signals, seeds = states(modality, 3), [5, 6, 5]
    together = side.generate(modality, signals, seeds)
    again = side.generate(modality, signals, seeds)
    closeness = 1e-4 if modality is AUDIO else 1
    for row, (one, same) in enumerate(zip(together, again, strict=True)):
        assert one.modality is modality and one.details["seed"] == seeds[row]
        np.testing.assert_array_equal(one.array, same.array)
        (alone,) = side.generate(modality, signals[row : row + 1], seeds[row : row + 1])
        np.testing.assert_allclose(one.array.astype(float), alone.array.astype(float), atol=closeness)
    (other,) = side.generate(modality, signals[:1], [7])
    assert not np.array_equal(other.array, together[0].array)
    (settled,) = side.generate(modality, signals[:1], [5], num_inference_steps=3, guidance_scale=1.0)
    assert settled.details == {"seed": 5, "num_inference_steps": 3, "guidance_scale": 1.0}


def test_what_is_made_follows_the_states_through_the_projector(side: OutputSide) -> None:
    signals = states(IMAGE, 1)
    (made,) = side.generate(IMAGE, signals, [5])
    with torch.no_grad():
        heard = Condition(side.projectors[IMAGE](signals))
    (expected,) = side.generator(IMAGE).generate(heard, [5])
    np.testing.assert_array_equal(made.array, expected.array)
    (other,) = side.generate(IMAGE, -5 * signals, [5])
    assert not np.array_equal(other.array, made.array)


def test_release_frees_the_generators_and_they_come_back_the_same(side: OutputSide) -> None:
    signals = states(IMAGE, 1)
    target, (before,) = side.target(IMAGE, ["a cat"]), side.generate(IMAGE, signals, [5])
    held = [weakref.ref(parameter) for parameter in side.generator(IMAGE).parameters()]
    assert len(held) > 20
    owned = dict(side.projectors.named_parameters())
    side.release()
    gc.collect()
    assert not any(reference() is not None for reference in held)
    assert not list(side.generators.parameters()) and dict(side.projectors.named_parameters()) == owned
    np.testing.assert_array_equal(side.generate(IMAGE, signals, [5])[0].array, before.array)
    assert torch.equal(side.target(IMAGE, ["a cat"]).tokens, target.tokens)


def test_sides_that_make_no_sense_are_refused(experts: dict[str, Path]) -> None:
    build = partial(StableDiffusion, experts["image"])
    with pytest.raises(ValueError, match="generators: image has two generators; keep one"):
        OutputSide([build(), build()], {"image": MLP})
    with pytest.raises(ValueError, match="projectors: found none; the generators make image: give each"):
        OutputSide([build()], {})
    with pytest.raises(ValueError, match="projectors: found audio, image; the generators make image"):
        OutputSide([build()], {"image": MLP, "audio": MLP})
    with pytest.raises(ValueError, match="compiled: found audio; the generators make image"):
        OutputSide([build()], {"image": MLP}, compiled=["image", "audio"])


def test_generators_wait_in_host_memory_while_others_are_used(side: OutputSide) -> None:
    """Weights on the device are copies of those in host memory, on a CPU too, so that moves show without a GPU."""
    twin = OutputSide([*side.generators], side.factories)  # another model over the same experts
    twin.build(E, {Modality(name): count for name, count in SIGNALS.items()})

    def drawn(of: OutputSide, modality: Modality) -> list[Any]:
        return [made.array.tolist() for made in of.generate(modality, states(modality, 2), [1, 2], 2)]

    def places(modality: Modality) -> set[int]:
        return {weight.data_ptr() for weight in side.generator(modality).parameters()}

    turns = [(of, modality) for of in (side, twin) for modality in (IMAGE, AUDIO)]
    expected = [drawn(*turn) for turn in turns]
    assert expected[0] != expected[2]
    residency = side.residency = twin.residency = Residency(torch.device("cpu"), 1)
    assert [drawn(*turn) for turn in turns] == expected
    assert residency.present == [side.generator(AUDIO)]
    waiting = places(IMAGE)
    drawn(side, IMAGE)
    assert residency.present == [side.generator(IMAGE)] and not waiting & places(IMAGE)
    drawn(twin, AUDIO)
    assert places(IMAGE) == waiting, "host memory still has them: nothing is copied back"

    residency.count = 2
    for modality, present in ((IMAGE, [AUDIO, IMAGE]), (AUDIO, [IMAGE, AUDIO]), (VIDEO, [AUDIO, VIDEO])):
        side.generate(modality, states(modality, 1), [1], 1)
        assert residency.present == [side.generator(each) for each in present]
    side.release()
    assert [drawn(*turn) for turn in turns] == expected, "what is read anew is kept anew"


def test_a_generator_that_the_device_has_no_room_for_leaves_it(
    side: OutputSide, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = side.generator(IMAGE)
    generator.load()
    residency = Residency(torch.device("cpu"), 1)
    residency.bring(generator)
    residency.bring(side.generator(AUDIO))
    waiting = [weight.data_ptr() for weight in generator.parameters()]

    def fails(*_: Any) -> None:
        raise torch.OutOfMemoryError

    with monkeypatch.context() as patch, pytest.raises(torch.OutOfMemoryError):
        patch.setattr(generator, "to", fails)
        residency.bring(generator)
    assert residency.present == [] and [weight.data_ptr() for weight in generator.parameters()] == waiting
    residency.bring(generator)
    assert residency.present == [generator]
