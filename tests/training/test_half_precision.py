"""NExT-GPT's classes in half precision: every stage, every loss, preferences, rewards, chat and test."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import supervised
import torch
from runs import Diary, data, fit, stages

from isthmus.model import AnyToAny, Reply
from isthmus.pocket.cells import MatrixCells
from isthmus.training import TrainingModule
from isthmus.training.stage import default_optimizer
from isthmus.types import IGNORED, Modality

STAGES = ["encoder_alignment", "decoder_alignment", "instruction_tuning", "preference_tuning", "reward_tuning"]
MADE = ["image", "video", "audio"]
# LLM, encoders, generators and the Trainer's precision. Denoising through float16 is refused without a loss scaler.
CASES = [
    ("bfloat16", "float16", "bfloat16", "32-true"),
    ("bfloat16", "bfloat16", "bfloat16", "bf16-mixed"),
    ("float16", "bfloat16", "float16", "bf16-mixed"),
    ("float16", "float16", "float16", "32-true"),
]


@pytest.fixture(scope="module", params=CASES, ids="-".join)
def run(
    request: pytest.FixtureRequest, experts: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> tuple[AnyToAny, Diary, dict[str, torch.dtype]]:
    """All five stages, once a case."""
    llm, encoders, generators, precision = request.param
    model, diary = fit(
        experts,
        tmp_path_factory.mktemp("half"),
        STAGES,
        denoising=0.0 if generators == "float16" else 0.5,
        saves=False,
        dtypes={"llm": llm, "encoders": encoders, "generators": generators},
        precision=precision,
    )
    named = {"llm": llm, "encoders": encoders, "generators": generators}
    return model.eval(), diary, {part: getattr(torch, name) for part, name in named.items()}


def test_every_stage_learns_in_float32_beside_half_experts(run: tuple[AnyToAny, Diary, dict[str, torch.dtype]]) -> None:
    model, diary, types = run
    assert diary.stages == [name for name in STAGES for _ in range(stages()[name].steps or 0)]
    assert all(np.isfinite(diary.losses))
    assert {tensor.dtype for tensor in model.state_dict().values() if tensor.is_floating_point()} == {torch.float32}
    owned = {id(parameter) for _, parameter in model.named_owned()}

    def frozen(part: torch.nn.Module) -> set[torch.dtype]:
        return {own.dtype for own in part.parameters() if id(own) not in owned}

    assert model.input_side is not None and model.output_side is not None
    assert frozen(model.backbone.language_model) == {types["llm"]}
    assert frozen(model.input_side.encoders) == {types["encoders"]}
    assert frozen(model.output_side.generators) <= {types["generators"]}  # only what was needed last is loaded


@pytest.mark.parametrize("autocast", [False, True])
def test_it_answers_with_every_medium(run: tuple[AnyToAny, Diary, dict[str, torch.dtype]], autocast: bool) -> None:
    model, _, types = run
    picture = np.full((16, 16, 3), 90, np.uint8)
    messages = [{"role": "user", "content": [{"type": "image", "image": picture}, {"type": "text", "text": "more"}]}]
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        reply = model.chat(messages, require=MADE)
    assert sorted(medium.modality for medium in reply.media()) == sorted(map(Modality, MADE))
    for medium in reply.media():
        assert np.isfinite(medium.array.astype(np.float64)).all()
    assert model.output_side is not None
    assert {own.dtype for own in model.output_side.generators.parameters()} == {types["generators"]}


def test_the_trainers_test_answers_too(run: tuple[AnyToAny, Diary, dict[str, torch.dtype]], tmp_path: Path) -> None:
    model, _, _ = run
    replies: list[Reply] = []

    class Kept(pl.Callback):
        def on_test_batch_end(self, trainer: Any, module: Any, outputs: list[Reply], *_: Any) -> None:
            replies.extend(outputs)

    module = data()
    module.test = {"cells": MatrixCells("test", per_cell=1, text_skill=1, outputs=("text", *MADE))}
    precision = model.trainer.precision
    trainer = pl.Trainer(
        accelerator="cpu", precision=precision, logger=False, enable_progress_bar=False, callbacks=[Kept()]
    )
    trainer.test(TrainingModule(model), datamodule=module, verbose=False)
    assert len(replies) == len(module.test["cells"])


def test_half_precision_alignment_is_that_of_float32(experts: dict[str, Path]) -> None:
    """H and the text loss of bfloat16 experts, held against the same model in float32."""
    from tiny_world import tiny_model

    found = []
    for name in ("float32", "bfloat16"):
        model = tiny_model(experts, max_tokens=1024, dtypes=dict.fromkeys(("llm", "encoders", "generators"), name))
        model.configure_model()
        weights = stages()["instruction_tuning"].losses
        batch = model.collator(contents=True)([data().sources["any_to_any"][index] for index in range(6)])
        with torch.no_grad():
            terms = supervised.terms(model, weights, batch)
        assert {value.dtype for value in [terms.text, *terms.alignment.values()]} == {torch.float32}
        aligned = {modality: float(value.mean()) for modality, value in terms.alignment.items()}
        found.append((float(terms.text) / int((batch.labels != IGNORED).sum()), aligned))
    (text, alignment), (rounded, near) = found
    assert rounded == pytest.approx(text, rel=0.05)
    assert near == pytest.approx(alignment, rel=0.05) and alignment


def test_a_float16_llm_is_warned_of(experts: dict[str, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    fit(experts, tmp_path, ["encoder_alignment"], saves=False, dtypes={"llm": "float16"})
    assert "the LLM is float16" in caplog.text and "bfloat16" in caplog.text
    caplog.clear()
    fit(experts, tmp_path, ["encoder_alignment"], saves=False, dtypes={"llm": "bfloat16"})
    assert "float16, in which" not in caplog.text


def test_an_llms_own_type_is_its_default(experts: dict[str, Path], tmp_path: Path) -> None:
    """From config.json, or from the weights where that says nothing."""
    import json

    from isthmus.backbones import CausalBackbone

    llm = CausalBackbone(experts["llama"], dtype="bfloat16")
    llm.materialize()
    assert CausalBackbone(experts["llama"]).dtype is torch.float32
    llm.llm.save_pretrained(tmp_path)
    llm.tokenizer.save_pretrained(tmp_path)
    assert CausalBackbone(tmp_path).dtype is torch.bfloat16
    config = json.loads((tmp_path / "config.json").read_text())
    config.pop("dtype")
    (tmp_path / "config.json").write_text(json.dumps(config))
    unsaid = CausalBackbone(tmp_path)
    unsaid.materialize()
    assert unsaid.dtype is unsaid.llm.dtype is torch.bfloat16


def test_denoising_through_float16_is_refused_without_a_loss_scaler(experts: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"'instruction_tuning': .*float16.*dtype: bfloat16"):
        fit(experts, tmp_path, ["instruction_tuning"], saves=False, dtypes={"generators": "float16"})
    with pytest.raises(ValueError, match=r"'preference_tuning': .*float16.*dtype: bfloat16"):
        fit(experts, tmp_path, ["preference_tuning"], saves=False, dtypes={"generators": "float16"})


@pytest.mark.parametrize("algorithm", ["norm", "value"])
def test_gradients_of_a_fused_optimizer_are_clipped_like_others(
    experts: dict[str, Path], tmp_path: Path, algorithm: str
) -> None:
    """Lightning's own clipping refuses a fused optimizer under bf16-mixed, which scales no loss."""
    losses = []
    for fused in (False, True):
        optimizer = partial(torch.optim.SGD, lr=5.0, fused=fused)  # its steps are as long as the gradients
        named = {"gradient_clip_val": 0.01, "gradient_clip_algorithm": algorithm, "precision": "bf16-mixed"}
        _, diary = fit(experts, tmp_path, ["encoder_alignment"], saves=False, optimizer=optimizer, **named)
        losses.append(diary.losses)
    free = fit(experts, tmp_path, ["encoder_alignment"], saves=False, optimizer=optimizer, precision="bf16-mixed")[1]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    assert free.losses != pytest.approx(losses[0], rel=1e-3)


def test_a_stages_own_optimizer_is_clipped_in_mixed_precision(experts: dict[str, Path], tmp_path: Path) -> None:
    _, diary = fit(
        experts, tmp_path, ["encoder_alignment"], saves=False, optimizer=default_optimizer, precision="bf16-mixed"
    )
    assert all(np.isfinite(diary.losses))
