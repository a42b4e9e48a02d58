"""Checkpoints in shards: what two processes write and read, alone and together, whole or not at all."""

from __future__ import annotations

import json
import pickle
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as distributed
import torch.multiprocessing as processes
from forked import CONTEXT
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Shard, distribute_tensor

from isthmus.backbones.owned_state import share_of
from isthmus.training.checkpoints.found import checkpoints, fault_of, latest
from isthmus.training.checkpoints.run_checkpoints import RunCheckpoints
from isthmus.training.checkpoints.settings import CheckpointSettings
from isthmus.training.checkpoints.shard_reader import layout_of, layout_of_optimizers
from isthmus.training.checkpoints.shard_writer import METADATA

FOLDERS = CheckpointSettings(distributed=True)
SHAPES = {"model.lora": (5, 3), "model.bias": (1, 4), "model.scale": ()}
"""One that two processes share unequally, one of which the second has nothing, and a scalar."""


def weights(step: int) -> dict[str, Tensor]:
    sizes = {name: torch.Size(shape) for name, shape in SHAPES.items()}
    return {name: torch.arange(float(size.numel())).reshape(size) + step for name, size in sizes.items()}


def checkpoint(held: dict[str, Tensor], step: int) -> dict[str, Any]:
    """As Lightning puts one together."""
    lora = held["model.lora"]
    state = {0: {"step": torch.tensor(float(step)), "exp_avg": lora + 0.5, "seen": torch.ones(2)}}
    return {
        "state_dict": held,
        "optimizer_states": [
            {"state": state, "param_groups": [{"lr": 0.1, "params": [0]}, {"betas": (0, 1), "params": []}]}
        ],
        "callbacks": {"StageSwitch{'run': 1}": {"names": ["one"], "reference": {"lora:a": lora * 2}}},
        "loops": {"fit_loop": {"step": step}, "none": None},
        "global_step": step,
    }


def assert_is(read: dict[str, Any], step: int) -> None:
    assert_same(read, checkpoint(weights(step), step))


def shares(step: int) -> dict[str, Tensor]:
    """The weights in the shards of two processes."""
    mesh = init_device_mesh("cpu", (2,))
    return {name: distribute_tensor(own, mesh, [Shard(0)]) if own.ndim else own for name, own in weights(step).items()}


@contextmanager
def full_disk() -> Iterator[None]:
    """No file can be longer than 100 bytes."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def work(rank: int, place: str) -> None:
    distributed.init_process_group("gloo", f"file://{place}/meet", rank=rank, world_size=2)
    folder, said = Path(place), {}
    saving = RunCheckpoints(CheckpointSettings(keep_last=2))
    for step in (1, 2, 3):
        saving.save_together(checkpoint(shares(step), step), folder / "last.ckpt")
    later = RunCheckpoints(CheckpointSettings(asynchronous=True))
    held = shares(4)
    later.save_together(checkpoint(held, 4), folder / "later" / "last.ckpt")
    for own in held.values():  # training goes on
        own.zero_()
    later.finish()

    for asynchronous in (False, True):
        failing = RunCheckpoints(CheckpointSettings(asynchronous=asynchronous))
        failing.save_together(checkpoint(shares(8), 8), folder / "full" / "last.ckpt")
        failing.finish()
        with full_disk() if rank else nullcontext():  # the second process's
            try:
                failing.save_together(checkpoint(shares(9), 9), folder / "full" / "last.ckpt")
                failing.finish()
            except ValueError as error:
                said[f"full {asynchronous}"] = str(error)

    for name in ("alone/shards.ckpt", "alone/file.ckpt", "later/last.ckpt"):
        own = shares(0)
        read = saving.load_shares(folder / name, layout_of(own))
        expected = checkpoint(shares(read["global_step"]), read["global_step"])
        optimizer = torch.optim.SGD([torch.nn.Parameter(own["model.lora"])])
        states = saving.load_later(read, layout_of_optimizers([optimizer]))
        for found, wanted in ((read["state_dict"], expected["state_dict"]), (states, expected["optimizer_states"])):
            assert_same(found, wanted)

    distributed.barrier()
    if rank == 0:
        damage(folder / "last.ckpt" / "__1_0.distcp")
    distributed.barrier()
    with pytest.raises(ValueError) as error:
        saving.load_shares(folder / "last.ckpt", layout_of(shares(0)))
    said["damaged"] = str(error.value)
    saving.fallbacks = latest([folder])
    assert saving.load_shares(folder / "last.ckpt", layout_of(shares(0)))["global_step"] == 2
    torch.save(said, folder / f"said_{rank}.pt")
    distributed.destroy_process_group()


def assert_same(found: Any, wanted: Any) -> None:
    if isinstance(wanted, DTensor):
        assert isinstance(found, DTensor) and found.placements == wanted.placements
        assert torch.equal(found.to_local(), wanted.to_local())
    elif isinstance(wanted, Tensor):
        assert torch.equal(found, wanted)
    elif isinstance(wanted, dict | list):
        assert len(found) == len(wanted)
        for key in wanted if isinstance(wanted, dict) else range(len(wanted)):
            assert_same(found[key], wanted[key])
    else:
        assert found == wanted


def damage(path: Path) -> None:
    """Changes one bit, and nothing else that can be seen."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


def save_alone(folder: Path) -> None:
    RunCheckpoints(FOLDERS).save_checkpoint(checkpoint(weights(7), 7), folder / "shards.ckpt")
    RunCheckpoints().save_checkpoint(checkpoint(weights(7), 7), folder / "file.ckpt")


@pytest.mark.slow
def test_two_processes_write_and_read_what_one_does(tmp_path: Path) -> None:
    save_alone(tmp_path / "alone")
    processes.start_processes(work, (str(tmp_path),), nprocs=2, start_method=CONTEXT.get_start_method())
    alone = RunCheckpoints()
    assert_is(alone.load_checkpoint(tmp_path / "later" / "last.ckpt"), 4)
    assert_is(alone.load_checkpoint(tmp_path / "last-2.ckpt"), 2)
    assert_is(alone.load_checkpoint(tmp_path / "full" / "last.ckpt"), 8)
    assert [path.name for path in checkpoints(tmp_path)] == ["last.ckpt", "last-2.ckpt"]
    assert not list(tmp_path.rglob("*.partial")) and not list(tmp_path.rglob("*.previous"))
    said = [torch.load(tmp_path / f"said_{rank}.pt") for rank in range(2)]
    assert said[0] == said[1]
    for told in (said[0]["full False"], said[0]["full True"]):
        assert told.startswith(f"{tmp_path}/full/last.ckpt: it can't be written (OSError: [Errno 27]")
        assert "what had this name before is whole. Fix" in told
    told = said[0]["damaged"]
    assert "its __1_0.distcp is damaged (its content isn't what was written). Fix: the newest whole" in told
    assert told.endswith(f"go on with --ckpt_path {tmp_path}/last-2.ckpt")


@pytest.mark.parametrize("settings", [CheckpointSettings(), FOLDERS], ids=["file", "folder"])
@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_checkpoint_goes_round(settings: CheckpointSettings, asynchronous: bool, tmp_path: Path) -> None:
    saving = RunCheckpoints(CheckpointSettings(settings.distributed, asynchronous))
    held = weights(3)
    saving.save_checkpoint(checkpoint(held, 3), tmp_path / "last.ckpt")
    for own in held.values():
        own.zero_()
    saving.teardown()
    assert (tmp_path / "last.ckpt").is_dir() == settings.distributed
    assert_is(saving.load_checkpoint(tmp_path / "last.ckpt"), 3)


def test_a_folder_runs_no_code(tmp_path: Path) -> None:
    save_alone(tmp_path)
    table = tmp_path / "shards.ckpt" / METADATA
    table.write_bytes(pickle.dumps(share_of))
    for step in ("its .metadata is damaged", "no table of shards"):
        with pytest.raises(ValueError, match=step):
            RunCheckpoints().load_checkpoint(tmp_path / "shards.ckpt")
        resign(tmp_path / "shards.ckpt")


def resign(folder: Path) -> None:
    """The manifest of someone who means it."""
    manifest = json.loads((folder / "manifest.json").read_text())
    for name, told in manifest["files"].items():
        content = (folder / name).read_bytes()
        told |= {"size": len(content), "sha256": sha256(content).hexdigest()}
    (folder / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    ("harm", "expected"),
    [
        (lambda folder: damage(folder / "structure.pt"), "its structure.pt is damaged"),
        (lambda folder: (folder / "__0_0.distcp").unlink(), "its __0_0.distcp isn't there"),
        (lambda folder: (folder / "manifest.json").unlink(), "it has no manifest.json, which is written last"),
        (lambda folder: (folder / "manifest.json").write_text('{"files": {"../x": 1}}'), r"names \.\./x, which isn't"),
        (lambda folder: (folder / "manifest.json").write_text("[]"), "it can't be read"),
    ],
)
def test_what_is_wrong_with_a_folder_is_said(harm: Any, expected: str, tmp_path: Path) -> None:
    save_alone(tmp_path)
    harm(tmp_path / "shards.ckpt")
    with pytest.raises(ValueError, match=rf"shards.ckpt: .*{expected}.*Fix: the newest whole .* is .*file.ckpt; go on"):
        RunCheckpoints().load_checkpoint(tmp_path / "shards.ckpt")
    assert fault_of(tmp_path / "file.ckpt") is None
