"""What every test may use: where golden fixtures lie, and the same randomness and threads each time."""

from __future__ import annotations

import gc
import logging
import multiprocessing
import os
import random
import signal
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

# Before torch is imported: results must not depend on how many cores a machine has, nor a test on a network.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# With AMX, oneDNN 3.12 gives wrong bfloat16 convolutions at some of the tests' small sizes (pytorch#169688).
os.environ.setdefault("ONEDNN_MAX_CPU_ISA", "AVX512_CORE_BF16")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("MPLBACKEND", "Agg")
# Before Triton is imported, where it is installed: its kernels run on CPU tensors (0: compiled, on a GPU).
os.environ.setdefault("TRITON_INTERPRET", "1")

import numpy as np
import pytest
from hypothesis import settings

# A shell without job control starts what it runs in the background with this signal ignored, which is inherited.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Drawn cases are the same in every run; how long one takes says nothing about it on a busy machine.
settings.register_profile("isthmus", derandomize=True, deadline=None, database=None)
settings.load_profile("isthmus")

# A process has one fork server, and it loads what was asked for before its first use. That may be a data loader's; a
# server's decoders need these libraries in it.
multiprocessing.get_context("forkserver").set_forkserver_preload(["isthmus.serving.guard.decoding"])

REPOSITORY = Path(__file__).resolve().parents[1]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with the most slow tests go first: workers take whole files, and short ones at the end keep all busy."""
    slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    items.sort(key=lambda item: -slow[item.path])


def pytest_collection_finish() -> None:
    """What is loaded by now stays: the collector needn't pass through it again and again, a second each time."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the clone."""
    return REPOSITORY


@pytest.fixture(scope="session")
def shared() -> Path:
    """Golden fixtures, which are too large for the repository: ``$ISTHMUS_SHARED``, or ``shared`` beside the clone."""
    folder = Path(os.environ.get("ISTHMUS_SHARED", REPOSITORY.parent / "shared"))
    if not folder.is_dir():
        pytest.skip(f"golden fixtures are not at {folder}: set ISTHMUS_SHARED to their folder")
    return folder


@pytest.fixture(autouse=True)
def _same_randomness() -> None:
    """Starts every test from one seed, so that its order among others doesn't matter."""
    random.seed(0)
    np.random.seed(0)
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.manual_seed(0)


@pytest.fixture(autouse=True)
def no_handlers_of_commands() -> Iterator[None]:
    """A command that a test ran writes its messages to the error stream of that test, which is closed after it."""
    yield
    logging.getLogger("isthmus").handlers.clear()
