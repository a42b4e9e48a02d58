"""A host's agent, as torchrun has it, and its two ranks of a small curriculum; started once for each host:

python two_hosts.py EXPERTS FOLDER '["/proc/1/ns/net", "/proc/2/ns/net"]' '["10.77.0.1", "10.77.0.2"]' INTERFACE
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as distributed
from pytorch_lightning.strategies import DDPStrategy
from torch.distributed.launcher.api import LaunchConfig, elastic_launch
from training.runs import OUTPUTS, fit

from isthmus.backbones.owned_state import whole_of
from isthmus.cli.runs.beginning import meet_anew

NAMES = ["encoder_alignment", "decoder_alignment"]
EXPERTS = ("imagebind", "point_bert", "llama", *OUTPUTS)
PATIENCE = timedelta(seconds=45)
PORT = 29_611
NETWORK = 0x4000_0000
"""The kernel's CLONE_NEWNET."""


def learn(experts: Path, folder: Path, name: str, **options: object) -> None:
    """The curriculum, from the newest checkpoint on; NAME.pt holds what came of it."""
    torch.set_num_threads(1)
    saved = sorted((folder / "checkpoints").glob("*.ckpt"), key=lambda path: path.stat().st_mtime)
    resume = str(saved[-1]) if saved else None
    paths = {expert: experts / expert for expert in EXPERTS}
    model, diary = fit(paths, folder, NAMES, resume, denoising=0.0, **options)  # type: ignore[arg-type]
    weights = {path: whole_of(own) for path, own in model.state_dict().items()}
    torch.save({"losses": diary.losses, "weights": weights, "resumed": resume}, folder / f"{name}.pt")


def rank(experts: str, folder: str) -> None:
    """One of four processes; a file says that it has ended before its time."""
    own = os.environ["RANK"]
    meet_anew()
    try:
        strategy = DDPStrategy(process_group_backend="gloo", timeout=PATIENCE)
        learn(Path(experts), Path(folder), f"rank_{own}", devices=2, num_nodes=2, strategy=strategy)
    except Exception as error:
        attempt = os.environ["TORCHELASTIC_RESTART_COUNT"]
        Path(folder, f"ended_{own}_{attempt}").write_text(str(error), encoding="utf-8")
        raise
    distributed.destroy_process_group()


def main() -> None:
    """A host."""
    experts, folder, namespaces, addresses, interface = sys.argv[1:]
    host = int(os.environ["LOCAL_RANK"])
    for name in ("LOCAL_RANK", "NODE_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        del os.environ[name]
    library = ctypes.CDLL(None, use_errno=True)
    with open(json.loads(namespaces)[host]) as namespace:
        assert library.setns(namespace.fileno(), NETWORK) == 0, os.strerror(ctypes.get_errno())
    os.environ["GLOO_SOCKET_IFNAME"] = interface
    # A host that begins again because the other one did doesn't count that, so that counts can't tell where to meet.
    os.environ["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] = "1"
    config = LaunchConfig(
        min_nodes=2,
        max_nodes=2,
        nproc_per_node=2,
        run_id="two-hosts",
        rdzv_backend="c10d",
        rdzv_endpoint=f"{json.loads(addresses)[0]}:{PORT}",
        rdzv_configs={"is_host": host == 0, "timeout": 300, "read_timeout": 600, "keep_alive_max_attempt": 60},
        max_restarts=3,
        start_method="fork",
        local_addr=json.loads(addresses)[host],
    )
    elastic_launch(config, rank)(experts, folder)


if __name__ == "__main__":
    main()
