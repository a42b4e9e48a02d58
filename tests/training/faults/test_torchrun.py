"""A rank that is killed under torchrun: all ranks are started again, and go on from the last checkpoint."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from test_engines import free_port
from tiny_world import tiny_clone

KILLER = '''
import os
import signal

import pytorch_lightning as pl


class Killer(pl.Callback):
    """Kills the second rank in the fourth step of the first start, as a machine does that has no memory left."""

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if os.environ["TORCHELASTIC_RESTART_COUNT"] == "0" and trainer.global_rank == 1 and batch_idx == 3:
            os.kill(os.getpid(), signal.SIGKILL)
'''
SAVER = {"save_last": True, "save_top_k": 0, "every_n_train_steps": 2, "enable_version_counter": False}
CONFIG = {
    "trainer": {
        "accelerator": "cpu",
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "logger": False,
        "callbacks": [
            {"class_path": "pytorch_lightning.callbacks.ModelCheckpoint", "init_args": SAVER},
            {"class_path": "killer.Killer"},
        ],
    },
    "data": {"batch_size": 4, "num_workers": 0, "validation": {}},
    "training": {"run": ["encoder_alignment"], "folder": "run", "stages": {"encoder_alignment": {"steps": 5}}},
}


@pytest.mark.slow
def test_a_killed_rank_costs_the_steps_since_the_last_checkpoint(tmp_path: Path, repository: Path) -> None:
    clone = tiny_clone(tmp_path / "clone")
    for name in ("configs", "train.py"):
        copy = shutil.copytree if (repository / name).is_dir() else shutil.copy
        copy(repository / name, clone / name)
    (clone / "killer.py").write_text(KILLER, encoding="utf-8")
    (clone / "killed.yaml").write_text(yaml.safe_dump(CONFIG), encoding="utf-8")
    ran = subprocess.run(
        [clone / "configs/engines/torchrun.sh", "fit", "-c", "killed.yaml"],
        cwd=clone,
        env=os.environ
        | {"NPROC_PER_NODE": "2", "MASTER_PORT": str(free_port()), "MAX_RESTARTS": "1"}
        | {"PYTHON": sys.executable, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(repository / "src")},
        capture_output=True,
        text=True,
        check=False,
    )
    said = ran.stdout + ran.stderr
    assert ran.returncode == 0, said[-3000:]
    assert "failed (exitcode: -9)" in said
    # Three steps were learnt, and the checkpoint holds two: one is learnt anew.
    assert "last.ckpt: stage 'encoder_alignment', after step 2" in said
    assert torch.load(clone / "run/checkpoints/last.ckpt", weights_only=True)["global_step"] == 4
    starts = json.loads((clone / "run/run.json").read_text())["starts"]
    assert [(start["from_step"], start["to_step"]) for start in starts] == [(0, 3), (2, 5)]
    assert (clone / "run/encoder_alignment/manifest.json").is_file()
