"""Stages under a real Trainer: one run equals separate ones; a killed and resumed run equals one that wasn't."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from forked import run
from pytorch_lightning.plugins import MixedPrecision
from pytorch_lightning.strategies import FSDPStrategy, SingleDeviceStrategy
from runs import NAMES, STEPS, data, fit, stages
from tiny_world import tiny_model

from isthmus.backbones.named_rows import named
from isthmus.model import AnyToAny
from isthmus.model.bundle import read_components
from isthmus.training import LossWeights, Stage, StageSwitch, TrainingModule
from isthmus.training.checks import check_divided

Whole = tuple[Path, AnyToAny, list[float]]


def assert_equal_weights(found: dict[str, Any], expected: dict[str, Any]) -> None:
    assert found.keys() == expected.keys()
    different = [name for name in expected if not torch.equal(found[name], expected[name])]
    assert not different, different


def test_each_stage_moves_what_it_trains_and_nothing_else(experts: dict[str, Path], whole: Whole) -> None:
    folder, _, _ = whole
    fresh = tiny_model(experts)
    fresh.configure_model()
    state = named(fresh.owned_state(), fresh.backbone.language_model.vocabulary)
    before = {part: {k: v.clone() for k, v in own.items()} for part, own in state.items()}
    for name in NAMES:
        after = read_components(folder / name)
        moved = {
            part.split(".")[0]
            for part, tensors in after.items()
            if any(not torch.equal(tensor, before[part][key]) for key, tensor in tensors.items())
        }
        assert moved == set(stages()[name].trains)
        before = after


def test_the_curriculum_equals_its_stages_run_apart(experts: dict[str, Path], whole: Whole, tmp_path: Path) -> None:
    _, model, losses = whole
    apart: list[float] = []
    previous = None
    for name in NAMES:
        last, diary = fit(experts, tmp_path / name, [name], init_from=previous)
        previous = str(tmp_path / name / name)
        apart += diary.losses
    assert len(apart) == sum(STEPS.values())
    assert apart == pytest.approx(losses, abs=1e-6)
    assert_equal_weights(last.state_dict(), model.state_dict())


@pytest.mark.slow
@pytest.mark.parametrize("kill_at", [2, 5, 7, 13])  # inside each stage, and at the first one's last batch
def test_a_killed_run_goes_on_bit_for_bit(experts: dict[str, Path], whole: Whole, tmp_path: Path, kill_at: int) -> None:
    _, model, losses = whole
    arguments = (str(experts["llama"].parent), str(tmp_path), json.dumps({"kill_at": kill_at}))
    run(Path(__file__).with_name("runs.py"), *arguments, ends=-signal.SIGKILL)
    saved = sorted((tmp_path / "checkpoints").glob("*.ckpt"), key=lambda file: int(file.stem.split("=")[1]))
    resumed, diary = fit(experts, tmp_path, resume=str(saved[-1]))
    steps = int(saved[-1].stem.split("=")[1])
    assert diary.losses == losses[steps:]
    assert_equal_weights(resumed.state_dict(), model.state_dict())


def test_resuming_a_finished_stage_boundary(experts: dict[str, Path], whole: Whole, tmp_path: Path) -> None:
    folder, model, losses = whole
    resumed, diary = fit(experts, tmp_path, resume=str(folder / "checkpoints" / "step=9.ckpt"))
    assert diary.losses == losses[9:]
    assert diary.stages == ["instruction_tuning"] * STEPS["instruction_tuning"]
    assert_equal_weights(resumed.state_dict(), model.state_dict())


def test_a_checkpoint_of_other_stages_is_refused(experts: dict[str, Path], whole: Whole, tmp_path: Path) -> None:
    folder, _, _ = whole
    with pytest.raises(ValueError, match=r"run of encoder_alignment, .*; this one runs decoder_alignment"):
        fit(experts, tmp_path, ["decoder_alignment"], resume=str(folder / "checkpoints" / "step=3.ckpt"))


def test_a_bundle_of_other_experts_is_refused(experts: dict[str, Path], whole: Whole, tmp_path: Path) -> None:
    from tiny_world import write_llm

    folder, _, _ = whole
    write_llm(tmp_path / "llama")
    weights = tmp_path / "llama" / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(bytes(data))
    model = tiny_model(experts | {"llama": tmp_path / "llama"})
    model.configure_model()
    with pytest.raises(ValueError, match="trained beside another backbone"):
        model.load(folder / "encoder_alignment")


def test_a_bundle_of_fewer_parts_begins_a_larger_model(experts: dict[str, Path], whole: Whole) -> None:
    folder, _, _ = whole
    smaller = tiny_model(
        experts, inputs=("image", "video", "audio", "points"), outputs=("image", "video", "audio"), lora=None
    )
    smaller.configure_model()
    with pytest.raises(ValueError, match="without LoRA"):
        smaller.load(folder / "instruction_tuning")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"trains": []}, "trains is empty"),
        ({"trains": ["lora"], "steps": None}, "exactly one"),
        ({"trains": ["lora"], "epochs": 1.0}, "exactly one"),
        ({"trains": ["lora"], "warmup_ratio": 1.0}, "warmup_ratio"),
        ({"trains": ["lora"], "ema": 1.0}, "found ema 1.0; expected a share"),
    ],
)
def test_a_stage_that_makes_no_sense_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Stage(**{"steps": 1} | changes)


def test_an_unknown_part_shows_before_anything_is_trained(experts: dict[str, Path], tmp_path: Path) -> None:
    import pytorch_lightning as pl

    switch = StageSwitch({"first": Stage(["lora"], steps=1), "second": Stage(["projector"], steps=1)}, folder=tmp_path)
    trainer = pl.Trainer(
        accelerator="cpu",
        logger=False,
        callbacks=[switch],
        reload_dataloaders_every_n_epochs=1,
        enable_checkpointing=False,
    )
    with pytest.raises(ValueError, match=r"stage 'second': trains names 'projector'.*input_projectors.image"):
        trainer.fit(TrainingModule(tiny_model(experts)), datamodule=data())


def test_an_unknown_source_shows_before_anything_is_trained(experts: dict[str, Path], tmp_path: Path) -> None:
    first, second = Stage(["lora"], data={"draw": 1.0}, steps=1), Stage(["lora"], data={"drew": 1.0}, steps=1)
    switch = StageSwitch({"first": first, "second": second}, folder=tmp_path)
    options: dict[str, Any] = {"logger": False, "enable_checkpointing": False, "callbacks": [switch]}
    trainer = pl.Trainer(accelerator="cpu", reload_dataloaders_every_n_epochs=1, **options)
    with pytest.raises(ValueError, match=r"stage 'second': .*drew"):
        trainer.fit(TrainingModule(tiny_model(experts)), datamodule=data())
    assert not list(tmp_path.iterdir())


def test_lora_that_no_stage_trains_is_told(
    experts: dict[str, Path], whole: Whole, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fit(experts, tmp_path / "new", ["encoder_alignment"], saves=False)
    told = [line for line in caplog.messages if line.startswith("lora: it is configured")]
    assert len(told) == 1 and "no stage of this run (encoder_alignment) trains it" in told[0]
    assert "go on with a stage that trains it (instruction_tuning, " in told[0]
    caplog.clear()
    fit(experts, tmp_path / "trained", ["encoder_alignment"], init_from=str(whole[0] / NAMES[-1]), saves=False)
    fit(experts, tmp_path / "trains", ["preference_tuning"], saves=False)
    assert not [line for line in caplog.messages if line.startswith("lora: it is configured")]


def test_mixed_precision_trains_and_half_precision_is_refused(experts: dict[str, Path], tmp_path: Path) -> None:
    model, diary = fit(experts, tmp_path, ["instruction_tuning"], precision="bf16-mixed")
    assert len(diary.losses) == STEPS["instruction_tuning"] and all(torch.tensor(diary.losses).isfinite())
    assert all(tensor.dtype == torch.float32 for tensor in model.state_dict().values() if tensor.is_floating_point())
    with pytest.raises(ValueError, match=r"trainer.precision: found bf16-true.*expected 32-true, or bf16-mixed"):
        fit(experts, tmp_path / "half", ["instruction_tuning"], precision="bf16-true")


def test_batches_in_parts_learn_what_whole_batches_learn(experts: dict[str, Path], tmp_path: Path) -> None:
    found = []
    for micro_batches in (1, 3):
        folder = tmp_path / str(micro_batches)
        model, diary = fit(experts, folder, denoising=0.0, saves=False, micro_batches=micro_batches)
        found.append((diary.losses, model.state_dict()))
    (whole, weights), (divided, others) = found
    assert divided == pytest.approx(whole, abs=1e-4)
    assert divided != whole  # the sums are taken in another order
    # By their length: where a gradient is next to nothing, Adam makes steps of rounding.
    apart = torch.cat([(others[name] - tensor).flatten() for name, tensor in weights.items()]).norm()
    assert apart < 1e-3 * torch.cat([tensor.flatten() for tensor in weights.values()]).norm()


def test_batches_in_parts_go_on_bit_for_bit(experts: dict[str, Path], tmp_path: Path) -> None:
    names = ["instruction_tuning", "preference_tuning", "reward_tuning"]
    model, whole = fit(experts, tmp_path, names, micro_batches=2)
    for step in (2, 8, 11):  # inside each stage
        options = {"micro_batches": 2, "resume": str(tmp_path / "checkpoints" / f"step={step}.ckpt")}
        again, resumed = fit(experts, tmp_path / str(step), names, **options)
        assert resumed.losses == whole.losses[step:]
        assert_equal_weights(again.state_dict(), model.state_dict())


def test_a_mean_of_batches_means_is_refused(experts: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"found trainer.accumulate_grad_batches 2.*Fix: take it out.*micro_batches"):
        fit(experts, tmp_path, ["instruction_tuning"], accumulate_grad_batches=2)


@pytest.mark.parametrize("decay", ["linear", "cosine", "constant"])
@pytest.mark.parametrize("length", [1, 2, 3, 7, 40])
def test_no_last_step_has_a_rate_of_zero(decay: Any, length: int) -> None:
    for warm_up in (0.0, 0.1, 0.5, 0.99):
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
        schedule = Stage(["lora"], steps=length, warmup_ratio=warm_up, lr_scheduler_type=decay).scheduler(length)(
            optimizer
        )
        rates = []
        for _ in range(length):
            rates.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            schedule.step()
        assert rates[-1] > 0 and max(rates) <= 1
        assert optimizer.param_groups[0]["lr"] == pytest.approx(float(decay == "constant"), abs=1e-9)


def test_parts_of_a_batch_are_refused_where_they_cant_be_learnt() -> None:
    stage = {"steps": 1, "trains": ["lora"], "micro_batches": 2}
    with pytest.raises(ValueError, match=r"losses.teaching.*Fix: set micro_batches to 1"):
        Stage(**stage, losses=LossWeights(teaching=1.0))
    with pytest.raises(ValueError, match="found micro_batches 0; expected at least 1"):
        Stage(["lora"], steps=1, micro_batches=0)
    trainer, stage = pl.Trainer(accelerator="cpu", logger=False), Stage(["lora"], steps=1, micro_batches=2)
    check_divided(trainer, stage, "tuning")
    trainer._accelerator_connector.strategy = FSDPStrategy()
    with pytest.raises(
        ValueError, match=r"'tuning': found micro_batches under FSDPStrategy.*Fix: lower the stage's batch_size"
    ):
        check_divided(trainer, stage, "tuning")
    trainer._accelerator_connector.strategy = SingleDeviceStrategy("cpu")
    trainer.strategy.precision_plugin = MixedPrecision("16-mixed", "cuda", scaler=torch.amp.GradScaler("cpu"))
    with pytest.raises(ValueError, match=r"'tuning': found micro_batches under 16-mixed.*Fix: set trainer.precision"):
        check_divided(trainer, stage, "tuning")


def test_unknown_and_repeated_stages_are_refused() -> None:
    known = {"a": Stage(["lora"], steps=1)}
    with pytest.raises(ValueError, match="unknown stage 'b'; known: a"):
        StageSwitch(known, ["b"])
    with pytest.raises(ValueError, match="once"):
        StageSwitch(known, ["a", "a"])
    with pytest.raises(ValueError, match="no stage"):
        StageSwitch({}, [])
