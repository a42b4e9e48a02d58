"""The engines: each file builds the strategy it names, and torchrun.sh joins two nodes into one training."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonargparse import ActionConfigFile
from pytorch_lightning import Trainer
from pytorch_lightning.cli import LightningArgumentParser
from pytorch_lightning.strategies import DDPStrategy

from isthmus.training.engines import Sharded

PROGRAM = '''
"""A training of one weight: each rank sees other samples, and the mean of the ranks' gradients moves the weight."""
import torch
from pytorch_lightning import LightningModule
from pytorch_lightning.cli import LightningCLI
from torch.utils.data import DataLoader


class OneWeight(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))

    def train_dataloader(self):
        return DataLoader(torch.tensor([1.0 + 2 * self.global_rank]), batch_size=1)

    def training_step(self, batch, index):
        return (self.weight * batch).sum()

    def configure_optimizers(self):
        return torch.optim.SGD([self.weight], lr=1.0)

    def on_train_end(self):
        print(f"rank {self.global_rank} of {self.trainer.world_size}: {self.weight.item()}", flush=True)


if __name__ == "__main__":
    LightningCLI(OneWeight, save_config_callback=None, seed_everything_default=0)
'''

QUIET = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "max_epochs": 1}


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def clone(tmp_path: Path, repository: Path) -> Path:
    """A repository with the shipped engines, the program above as its train.py and one config."""
    shutil.copytree(repository / "configs/engines", tmp_path / "configs/engines")
    (tmp_path / "train.py").write_text(PROGRAM, encoding="utf-8")
    (tmp_path / "stage.yaml").write_text(yaml.safe_dump({"trainer": QUIET | {"accelerator": "cpu"}}), encoding="utf-8")
    return tmp_path


def parsed(repository: Path, engine: str, *arguments: str) -> Any:
    """The Trainer's arguments, checked against the strategy's signature."""
    parser = LightningArgumentParser()
    parser.add_lightning_class_args(Trainer, "trainer")
    parser.add_argument("--config", action=ActionConfigFile)
    return parser, parser.parse_args(["--config", str(repository / f"configs/engines/{engine}.yaml"), *arguments])


@pytest.mark.parametrize(("engine", "kind"), [("ddp", DDPStrategy), ("fsdp2", Sharded)])
def test_an_engines_file_is_what_the_trainer_gets(repository: Path, engine: str, kind: type[Any]) -> None:
    parser, found = parsed(repository, engine, "--trainer.accelerator=cpu", "--trainer.devices=2")
    trainer = Trainer(**parser.instantiate_classes(found).trainer)
    assert isinstance(trainer.strategy, kind)
    assert trainer.strategy._get_process_group_backend() == "gloo"
    assert trainer.world_size == 2
    assert trainer._accelerator_connector.use_distributed_sampler is False
    if isinstance(trainer.strategy, DDPStrategy):
        assert not trainer.strategy._ddp_kwargs.get("find_unused_parameters")


@pytest.mark.parametrize("stage", [2, 3])
def test_deepspeeds_files_name_its_strategys_arguments(repository: Path, stage: int) -> None:
    """They are parsed, not run: Lightning's strategy takes GPUs alone, and DeepSpeed isn't among the requirements."""
    _, found = parsed(repository, f"deepspeed_zero{stage}")
    assert found.trainer.strategy.class_path == "pytorch_lightning.strategies.DeepSpeedStrategy"
    assert found.trainer.strategy.init_args.stage == stage
    assert found.trainer.strategy.init_args.exclude_frozen_parameters is True


def test_a_group_of_shards_divides_the_processes() -> None:
    trainer = Trainer(accelerator="cpu", devices=4, strategy=Sharded(data_parallel_size=3), logger=False)
    assert isinstance(trainer.strategy, Sharded)
    with pytest.raises(ValueError, match=r"data_parallel_size: found 3 with 4 processes; expected a divisor.*Fix: "):
        trainer.strategy._shards()


@pytest.mark.slow
def test_torchrun_script_joins_two_nodes(clone: Path) -> None:
    port = str(free_port())
    nodes = [
        subprocess.Popen(
            [clone / "configs/engines/torchrun.sh", "fit", "-c", "stage.yaml"],
            cwd=clone,
            env=os.environ
            | {"NNODES": "2", "NODE_RANK": str(rank), "NPROC_PER_NODE": "1", "MASTER_PORT": port}
            | {"PYTHON": sys.executable, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        outputs = [node.communicate(timeout=240)[0] for node in nodes]
    finally:
        for node in nodes:
            node.kill()
    assert [node.returncode for node in nodes] == [0, 0], "\n".join(outputs)
    # samples 1 and 3, mean gradient 2, learning rate 1
    for rank, output in enumerate(outputs):
        assert f"rank {rank} of 2: -2.0" in output, output


@pytest.mark.parametrize(
    ("script", "arguments", "variables", "words"),
    [
        ("torchrun.sh", [], {}, "usage"),
        ("torchrun.sh", ["fit"], {"ENGINE": "warp"}, "warp.yaml"),
        ("slurm.sh", ["fit"], {}, "usage: sbatch"),
        ("slurm_chain.sh", ["--nodes", "2"], {}, "usage: FOLDER"),
        ("slurm.sh", ["fit"], {"SLURM_JOB_ID": "7"}, "--ntasks-per-node"),
        ("slurm.sh", ["fit"], {"SLURM_JOB_ID": "7", "SLURM_NTASKS_PER_NODE": "2", "SLURM_SUBMIT_DIR": "/"}, "ddp.yaml"),
    ],
)
def test_scripts_say_what_is_missing(
    repository: Path, script: str, arguments: list[str], variables: dict[str, str], words: str
) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM_", "ENGINE"))}
    ran = subprocess.run(
        [repository / "configs/engines" / script, *arguments],
        env=environment | variables,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 2
    assert words in ran.stderr


@pytest.fixture
def cluster(clone: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """SLURM's commands, which write down what they were asked for, and answer with the number of a job."""
    asked = clone / "asked.txt"
    for name, answer in (("srun", ""), ("sbatch", "echo $((100 + $(wc -l < asked.txt)))")):
        command = clone / "bin" / name
        command.parent.mkdir(exist_ok=True)
        command.write_text(f'#!/bin/sh\necho "{name} $*" >> {asked}\n{answer}\n', encoding="utf-8")
        command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{clone / 'bin'}{os.pathsep}{os.environ['PATH']}")
    return asked


def test_an_array_takes_its_own_line_of_a_sweep(clone: Path, cluster: Path) -> None:
    (clone / "sweep.txt").write_text("--training.folder runs/1\n--training.folder runs/2 --data.seed 2\nnothing\n")
    job = {
        "SLURM_JOB_ID": "7",
        "SLURM_NTASKS_PER_NODE": "2",
        "SLURM_JOB_NUM_NODES": "3",
        "SLURM_SUBMIT_DIR": str(clone),
    }
    command = [clone / "configs/engines/slurm.sh", "fit", "-c", "stage.yaml"]
    for task, code in (("2", 0), ("3", 2)):
        environment = os.environ | job | {"SWEEP": "sweep.txt", "SLURM_ARRAY_TASK_ID": task, "PYTHON": "python"}
        ran = subprocess.run(command, cwd=clone, env=environment, capture_output=True, text=True, check=False)
        assert ran.returncode == code, ran.stderr
    assert "sweep.txt, line 3: found 'nothing'; expected options with a --training.folder" in ran.stderr
    (line,) = cluster.read_text().splitlines()
    own, engine = "--training.folder runs/2 --data.seed 2", f"-c {clone}/configs/engines/ddp.yaml"
    wanted = f"{clone}/train.py fit -c stage.yaml {own} {engine} --trainer.num_nodes 3 --trainer.devices 2"
    assert line == f"srun --kill-on-bad-exit=1 python {wanted}"


def test_a_chain_begins_each_stage_from_the_one_before(clone: Path, cluster: Path) -> None:
    ran = subprocess.run(
        [clone / "configs/engines/slurm_chain.sh", "--nodes", "2", "--", "-c", "curriculum.yaml"],
        cwd=clone,
        env=os.environ | {"STAGES": "one two", "FOLDER": "runs/chain"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.stdout.splitlines() == ["one: job 101", "two: job 102"], ran.stderr
    first, second = cluster.read_text().splitlines()
    fit = f"--nodes 2 {clone}/configs/engines/slurm.sh fit -c curriculum.yaml"
    assert first == (
        f"sbatch --parsable --job-name isthmus-one {fit} --training.run [one] --training.folder runs/chain/one"
    )
    assert second == (
        f"sbatch --parsable --job-name isthmus-two --dependency afterok:101 --kill-on-invalid-dep yes {fit} "
        "--training.run [two] --training.folder runs/chain/two --training.init_from runs/chain/one/one"
    )
