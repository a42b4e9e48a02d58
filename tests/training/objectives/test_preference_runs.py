"""Preference and reward tuning as stages: reference at the stage's start, killed and resumed bit for bit."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest
import torch
from forked import run
from runs import PREFERENCES, Diary, fit

from isthmus.modalities import MEDIA
from isthmus.model import AnyToAny
from isthmus.model.bundle import read_components

pytestmark = pytest.mark.slow

Run = tuple[Path, AnyToAny, Diary]


@pytest.fixture(scope="module")
def tuned(experts: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Alignment, preference tuning and reward tuning, never broken off."""
    folder = tmp_path_factory.mktemp("tuned")
    model, diary = fit(experts, folder, PREFERENCES)
    return folder, model, diary


def test_the_reference_is_where_each_stage_began(tuned: Run) -> None:
    folder, _, diary = tuned
    assert len(diary.losses) == 4 + 4 + 3 and all(torch.tensor(diary.losses).isfinite())
    assert diary.module is not None and diary.module.reference is not None
    began = read_components(folder / "preference_tuning")
    runs = torch.cat([began["signal_rows"][modality] for modality in MEDIA])
    torch.testing.assert_close(diary.module.reference.tensors["signal_rows:0"], runs)
    ended = read_components(folder / "reward_tuning")
    assert not torch.equal(ended["signal_rows"]["image.start"], began["signal_rows"]["image.start"])
    assert all(
        torch.equal(tensor, began[part][name])
        for part, tensors in ended.items()
        if part.startswith("output_projectors")
        for name, tensor in tensors.items()
    )


@pytest.mark.parametrize("step", [4, 6, 8, 9])  # before the first pair, amid pairs, at the stages' border, amid prompts
def test_resuming_is_bit_identical(experts: dict[str, Path], tuned: Run, tmp_path: Path, step: int) -> None:
    folder, model, whole = tuned
    resumed, diary = fit(experts, tmp_path, PREFERENCES, resume=str(folder / "checkpoints" / f"step={step}.ckpt"))
    assert diary.losses == whole.losses[step:]
    assert all(torch.equal(own, model.state_dict()[name]) for name, own in resumed.state_dict().items())


@pytest.mark.parametrize("kill_at", [6, 10])
def test_a_killed_run_goes_on_bit_for_bit(experts: dict[str, Path], tuned: Run, tmp_path: Path, kill_at: int) -> None:
    _, model, whole = tuned
    options = json.dumps({"kill_at": kill_at, "names": PREFERENCES})
    arguments = (str(experts["llama"].parent), str(tmp_path), options)
    run(Path(__file__).parents[1] / "runs.py", *arguments, ends=-signal.SIGKILL)
    saved = sorted((tmp_path / "checkpoints").glob("*.ckpt"), key=lambda file: int(file.stem.split("=")[1]))
    resumed, diary = fit(experts, tmp_path, PREFERENCES, resume=str(saved[-1]))
    assert diary.losses == whole.losses[int(saved[-1].stem.split("=")[1]) :]
    assert all(torch.equal(own, model.state_dict()[name]) for name, own in resumed.state_dict().items())
