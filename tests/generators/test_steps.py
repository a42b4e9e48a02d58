"""Between denoising steps: evenly spaced estimates of the rows that are asked for, and no trace in the result."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from isthmus.generators.pixels import pictures_of
from isthmus.generators.steps import Estimates, evenly_spaced, named_rows, watched
from isthmus.types import Media

Looks = list[tuple[int, dict[Any, Media]]]
CAPTIONS = ["cat", "a dog", "the sea"]


def drawn(generator: Any, at: Collection[int], rows: Collection[Any], steps: int = 8) -> tuple[list[Media], Looks]:
    """Pictures of all captions, and what was seen of some rows after some steps."""
    looks: Looks = []

    def watch(done: int, total: int, estimates: Estimates) -> None:
        assert total == steps
        if done in at:
            looks.append((done, estimates(rows)))

    with watched(watch):
        return generator.generate(generator.condition(CAPTIONS), [1, 2, 3], steps), looks


@pytest.mark.parametrize(
    ("total", "count", "expected"),
    [(8, 0, []), (8, 1, [4]), (8, 3, [2, 4, 6]), (50, 3, [12, 25, 37]), (4, 3, [1, 2, 3]), (2, 3, [1]), (1, 3, [])],
)
def test_steps_are_spaced_evenly(total: int, count: int, expected: list[int]) -> None:
    assert evenly_spaced(total, count) == expected


@pytest.mark.parametrize("kind", ["image", "xl", "sd3"])
def test_looking_at_a_picture_changes_nothing(
    kind: str, build: Any, build_newer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = (build if kind == "image" else build_newer)(kind, batch_size=2)
    plain = generator.generate(generator.condition(CAPTIONS), [1, 2, 3], 8)
    decoded: list[int] = []
    decode = generator.vae.decode

    def counted(latents: torch.Tensor, *args: Any, **options: Any) -> Any:
        decoded.append(len(latents))
        return decode(latents, *args, **options)

    monkeypatch.setattr(generator.vae, "decode", counted)
    silent, _ = drawn(generator, [], [])
    assert decoded == [2, 1], "nothing is decoded for those who don't ask"
    made, looks = drawn(generator, [*evenly_spaced(8, 3), 8], [0, 2])
    for media in (silent, made):
        assert all(np.array_equal(one.array, other.array) for one, other in zip(plain, media, strict=True))
    assert [(done, list(seen)) for done, seen in looks] == [(at, [row]) for row in (0, 2) for at in (2, 4, 6, 8)]
    assert decoded == [2, 1, 1, 1, 1, 1, 2, 1, 1, 1, 1, 1], "of the first two rows one, then the last"
    for row in (0, 2):
        seen = [look[row].array.astype(int) for _, look in looks if row in look]
        assert all(picture.shape == plain[row].array.shape for picture in seen)
        errors = [np.abs(picture - plain[row].array).max() for picture in seen]
        assert errors[0] > 1 >= errors[-1], "a step to no noise goes all the way to what is predicted"


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize("sampler", ["ddim", "euler"])
def test_an_estimate_is_the_samplers_own(
    build: Any, copied: Callable[..., Path], sampler: str, prediction: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = copied("image", scheduler={"prediction_type": prediction})
    generator = build("image", folder, scheduler=sampler)
    scheduler = generator._resident_pipeline().scheduler
    own: list[torch.Tensor] = []
    step = type(scheduler).step

    def kept(*args: Any, **options: Any) -> Any:
        found = step(*args, **options)
        own.append(found[1])
        return found

    monkeypatch.setattr(type(scheduler), "step", kept)
    generator._pipeline = None
    _, looks = drawn(generator, range(9), [0, 1, 2])
    assert len(looks) == len(own) == 8
    for (_, seen), clean in zip(looks, own, strict=True):
        pixels = generator.vae.decode(clean / generator.vae.config.scaling_factor).sample
        expected = pictures_of((pixels / 2 + 0.5).clamp(0, 1)).astype(int)
        assert all(np.abs(seen[row].array - expected[row]).max() <= 1 for row in range(3))


def test_generators_without_estimates_show_none(build: Any) -> None:
    generator = build("audio")
    assert not generator.has_estimates
    _, looks = drawn(generator, [1], [0], steps=2)
    assert looks == [(1, {})]


def test_rows_are_called_by_their_names(build: Any) -> None:
    generator = build("image", batch_size=2)
    _, looks = drawn(generator, [1], [0, 1, 2], steps=2)
    rows = {row: medium for _, seen in looks for row, medium in seen.items()}
    named: dict[Any, Media] = {}

    def watch(done: int, total: int, estimates: Estimates) -> None:
        if done < total:
            named.update(estimates(["b", "c", "nobody"]))

    with watched(watch), named_rows(["a", "b", "c"]):
        generator.generate(generator.condition(CAPTIONS), [1, 2, 3], 2)
    assert list(named) == ["b", "c"]
    assert np.array_equal(named["c"].array, rows[2].array)
    assert np.abs(named["b"].array.astype(int) - rows[1].array).max() <= 1, "decoded in another company"


def test_a_copy_steps_a_scheduler_of_its_own(build: Any) -> None:
    generator = build("image")
    condition = generator.condition(["cat"])
    [expected] = generator.generate(condition, [1], 3)
    copied = copy.deepcopy(generator)
    generator.generate(condition, [1], 5)  # leaves the original's scheduler at other timesteps
    totals: list[int] = []
    with watched(lambda done, total, estimates: totals.append(total)):
        [found] = copied.generate(condition, [1], 3)
    assert totals == [3, 3, 3] and np.array_equal(found.array, expected.array)
