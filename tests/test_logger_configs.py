"""Loggers by one line: each config fits its class, keeps to this machine, and is tried where it is installed."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonargparse import ActionConfigFile
from pytorch_lightning import Trainer
from pytorch_lightning.cli import LightningArgumentParser

from isthmus.training.running.refused import check_loggers


def parser() -> LightningArgumentParser:
    made = LightningArgumentParser()
    made.add_lightning_class_args(Trainer, "trainer")
    made.add_argument("--data.multiprocessing_context", type=str)
    made.add_argument("--config", action=ActionConfigFile)
    return made


@pytest.mark.parametrize(("name", "library"), [("wandb", "wandb"), ("mlflow", "mlflow")])
def test_a_logger_is_one_line_and_stays_offline(
    name: str, library: str, repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = repository / "configs/loggers" / f"{name}.yaml"
    parsed = parser().parse_args(["--config", str(config), "--trainer.accelerator", "cpu"])
    options: dict[str, Any] = yaml.safe_load(config.read_text())["trainer"]["logger"]["init_args"]
    assert parsed.trainer.logger.class_path.startswith("pytorch_lightning.loggers.")
    assert options.get("offline") is True or options["tracking_uri"].startswith("sqlite:")
    if find_spec(library) is None:
        pytest.skip(f"{library} isn't installed (pip install 'isthmus[loggers]'): its config was parsed")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    trainer = parser().instantiate_classes(parsed).trainer
    made = Trainer(**{key: value for key, value in trainer.items() if key in ("logger", "accelerator")})
    check_loggers(made, 2, parsed.data.multiprocessing_context)
    made.loggers[0].log_metrics({"train/loss": 1.0}, step=1)
    made.loggers[0].finalize("success")
    assert any(path.is_file() for path in tmp_path.rglob("*"))
