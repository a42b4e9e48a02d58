"""Runs a test's program in processes of its own, which begin with the libraries loaded.

A fresh interpreter needs seven seconds of a core to import torch, Lightning and transformers. Here the fork server of
`multiprocessing` imports them once in a test session. Each program starts in a fork of that server, which has run
nothing else: it has its own memory, environment, streams and exit code, and may be killed. A test of how processes are
launched starts them with `subprocess` instead.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import forkserver
from multiprocessing.connection import wait
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

LIBRARIES = ("pytorch_lightning", "transformers", "diffusers", "peft", "torchmetrics", "isthmus.training")
CONTEXT = multiprocessing.get_context("forkserver")
SERVER = forkserver.ForkServer()
"""Of these programs alone: Python's one for all has what its first user preloads, here a server's decoders."""
SERVER.set_forkserver_preload(list(LIBRARIES))


def run(script: Path, *arguments: str, ranks: int = 1, ends: int = 0) -> str:
    """Runs ``python SCRIPT ARGUMENTS`` in each of some ranks.

    Args:
        script: the program.
        arguments: its arguments, the same for every rank.
        ranks: processes; several are told of each other as Lightning's own launcher tells them.
        ends: the exit code that is expected of each, or minus the signal that kills it.

    Returns:
        What all of them wrote, both streams.
    """
    with started(script, *arguments, ranks=ranks) as (processes, log):
        left = list(processes)
        while left and all(process.exitcode in (None, ends) for process in processes):
            wait([process.sentinel for process in left])
            left = [process for process in left if process.is_alive()]
        said = log.read_text(errors="replace")
        codes = [process.exitcode for process in processes]
        assert codes == [ends] * ranks, f"{script.name} ended with {codes}:\n{said[-3000:]}"
        return said


@contextmanager
def forking() -> Iterator[None]:
    """Within the block processes of :data:`CONTEXT` are forked from :data:`SERVER`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(forkserver, "connect_to_new_process", SERVER.connect_to_new_process)
        yield


@contextmanager
def started(script: Path, *arguments: str, ranks: int = 1) -> Iterator[tuple[list[Any], Path]]:
    """The processes of such a run, and the file with what they write; they are killed at the block's end."""
    with TemporaryDirectory() as folder:
        log = Path(folder) / "log.txt"
        log.touch()
        meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port()), "WORLD_SIZE": str(ranks)}
        processes = []
        for rank in range(ranks):
            several = meeting | {"NODE_RANK": "0", "LOCAL_RANK": str(rank)} if ranks > 1 else {}
            environment = os.environ | {"OMP_NUM_THREADS": "1"} | several
            processes.append(
                CONTEXT.Process(target=_become, args=(str(script), arguments, dict(environment), str(log)))
            )
        try:
            with forking():
                for process in processes:
                    process.start()
            yield processes, log
        finally:
            for process in processes:
                if process.pid is not None:
                    process.kill()
                    process.join()


def _become(script: str, arguments: tuple[str, ...], environment: dict[str, str], log: str) -> None:
    from pytorch_lightning.utilities.rank_zero import rank_zero_only

    os.environ.clear()
    os.environ.update(environment)
    rank_zero_only.rank = int(environment.get("LOCAL_RANK", "0"))  # read from the environment when it was imported
    descriptor = os.open(log, os.O_WRONLY | os.O_APPEND)
    for standard in (1, 2):
        os.dup2(descriptor, standard)
    sys.argv = [script, *arguments]
    sys.path.insert(0, str(Path(script).parent))
    runpy.run_path(script, run_name="__main__")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
