"""A gradient for all that trains, whatever a batch reaches."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from isthmus.training.touching import touched


def test_a_zero_is_added_and_nothing_else_changes() -> None:
    reached, other = nn.Parameter(torch.tensor([1.0, 2.0])), nn.Parameter(torch.ones(2, 3))
    loss = touched(reached.square().sum(), [reached, other])
    assert float(loss) == 5.0
    loss.backward()
    assert torch.equal(reached.grad, torch.tensor([2.0, 4.0]))  # type: ignore[arg-type]
    assert torch.equal(other.grad, torch.zeros(2, 3))  # type: ignore[arg-type]


def test_a_loss_that_reaches_nothing_has_a_backward_pass() -> None:
    parameter = nn.Parameter(torch.full((4,), float("inf")))  # zero times it would be no number
    loss = touched(torch.tensor(3.0), [parameter])
    loss.backward()
    assert torch.equal(parameter.grad, torch.zeros(4))  # type: ignore[arg-type]


@pytest.mark.parametrize("trains", ["input_projectors", "output_projectors"])
def test_batches_of_text_alone_train_bridges_by_nothing(trains: str, experts: dict[str, Path], tmp_path: Path) -> None:
    """Batches that reach no trained part end no run, and change no weight."""
    import pytorch_lightning as pl
    from model.talks import talk
    from tiny_world import tiny_model

    from isthmus.data.conversations.schema import Conversation
    from isthmus.data.conversations.sources import ConversationSource
    from isthmus.data.module import ConversationDataModule
    from isthmus.training import Stage, StageSwitch, TrainingModule

    class Words(ConversationSource):
        def __len__(self) -> int:
            return 4

        def __getitem__(self, index: int) -> Conversation:
            return talk(["a question"], [f"answer {index}"])

    stage = Stage([trains], data={"words": 1.0}, steps=2, optimizer=lambda own: torch.optim.SGD(own, lr=1.0))
    switch = StageSwitch({"words": stage}, folder=tmp_path)
    model = tiny_model(experts)
    model.configure_model()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    trainer = pl.Trainer(
        accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False, callbacks=[switch],
        enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(TrainingModule(model), datamodule=ConversationDataModule({"words": Words()}, batch_size=2))
    assert trainer.global_step == 2
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
