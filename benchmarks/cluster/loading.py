"""How much host memory processes take together that build a sharded LLM from a folder of weights."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch

from benchmarks.miniature import write_llm
from benchmarks.report import report
from isthmus.published import read_published

LARGEST = 1 << 30
"""Bytes of a file of weights, at most."""
SIZES = {"short": (1024, 16, 4_000), "long": (4096, 32, 31_990)}
"""Width, layers and words: some hundred million parameters, or the shape of Llama 2 7B."""
RANKS = (2, 8)
"""Processes that build it, one number after another."""


def write_shards(folder: Path, width: int, layers: int, words: int) -> int:
    """A random LLM of bfloat16 in files of :data:`LARGEST`, of numbers that repeat; its bytes."""
    from safetensors.torch import save_file
    from transformers import AutoConfig, AutoModelForCausalLM

    write_llm(folder, width=64, layers=1, words=words, heads=2)  # its tokenizer and configuration
    (folder / "model.safetensors").unlink()
    settings = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    settings |= {"hidden_size": width, "num_hidden_layers": layers, "intermediate_size": width * 11008 // 4096}
    settings |= dict.fromkeys(("num_attention_heads", "num_key_value_heads"), max(width // 128, 2))
    settings |= {"head_dim": width // max(width // 128, 2), "dtype": "bfloat16"}
    (folder / "config.json").write_text(json.dumps(settings), encoding="utf-8")
    with torch.device("meta"):
        config = read_published(AutoConfig, folder)
        llm = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16, trust_remote_code=False)
    drawn = torch.empty(1 << 22).normal_(0, 0.02, generator=torch.Generator().manual_seed(0)).bfloat16()
    held: dict[str, torch.Tensor] = {}
    files = total = 0
    shapes = {name: own.shape for name, own in llm.named_parameters()}
    for place, (name, shape) in enumerate(shapes.items()):
        held[name] = drawn.repeat(-(-shape.numel() // len(drawn)))[: shape.numel()].view(shape).clone()
        size = sum(own.nbytes for own in held.values())
        if size >= LARGEST or place + 1 == len(shapes):
            save_file(held, folder / f"model-{files:05}.safetensors", metadata={"format": "pt"})
            held, files, total = {}, files + 1, total + size
    return total


def proportional() -> int:
    """Bytes of this process: its own memory, and its part of what it shares with others, pages of files included."""
    for line in Path("/proc/self/smaps_rollup").read_text(encoding="ascii").splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) << 10
    raise RuntimeError("/proc/self/smaps_rollup has no Pss")


@contextmanager
def watched(every: float = 0.05) -> Iterator[list[int]]:
    """Gathers this process's memory from the block's beginning to its end."""
    found, over = [proportional()], threading.Event()

    def look() -> None:
        while not over.wait(every):
            found.append(proportional())

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield found
    finally:
        over.set()
        thread.join()
        found.append(proportional())


def load(folder: Path, result: Path) -> None:
    """In a process of its own: builds the model in shards, and leaves what it took."""
    from torch.distributed.device_mesh import init_device_mesh

    from isthmus.backbones import CausalBackbone, LoraSettings
    from isthmus.model import AnyToAny, Backbone
    from isthmus.training.engines.units import build_sharded

    torch.distributed.init_process_group("gloo")
    rank, world = torch.distributed.get_rank(), torch.distributed.get_world_size()
    model = AnyToAny(Backbone(CausalBackbone(folder, lora=LoraSettings(r=8), dtype="bfloat16"), 512))
    with torch.random.fork_rng(devices=[]):
        warm = torch.ones(8, 8) @ torch.ones(8, 8)  # the libraries' own memory, before it is looked at
    assert float(warm.sum()) == 512
    torch.distributed.barrier()
    with watched() as found:
        build_sharded(model, init_device_mesh("cpu", (world,)))
        torch.distributed.barrier()
    result.with_suffix(f".{rank}").write_text(json.dumps({"before": found[0], "peak": max(found), "after": found[-1]}))
    torch.distributed.destroy_process_group()


def measure(folder: Path, ranks: int) -> list[dict[str, int]]:
    """What each of so many ranks took."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    told = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(ranks), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "benchmarks.cluster.loading", str(folder), str(folder / "taken")]
    processes = [subprocess.Popen(command, env=os.environ | told | {"RANK": str(rank)}) for rank in range(ranks)]
    codes = [process.wait() for process in processes]
    if any(codes):
        raise RuntimeError(f"sharded_loading: found exit codes {codes}; expected 0 of each rank")
    return [json.loads((folder / f"taken.{rank}").read_text()) for rank in range(ranks)]


def run(folder: Path, form: str, ranks: Sequence[int] = RANKS) -> None:
    """Writes an LLM, lets ranks build it in shards, and reports the memory that they take together."""
    weights, gib = write_shards(folder / "llm", *SIZES[form]), 2**30
    rows = []
    for count in ranks:
        taken = measure(folder / "llm", count)
        before, peak, after = (sum(own[name] for own in taken) for name in ("before", "peak", "after"))
        row = {"ranks": count, "weights (GiB)": weights / gib, "before (GiB)": before / gib, "peak (GiB)": peak / gib}
        row["after (GiB)"] = after / gib
        row |= {"rise / weights": (peak - before) / weights, "peak / weights": peak / weights}
        rows.append({name: round(value, 3) for name, value in row.items()})
    report("sharded_loading", rows, form=form)


if __name__ == "__main__":
    load(Path(sys.argv[1]), Path(sys.argv[2]))
