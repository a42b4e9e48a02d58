"""The command line of an expert's training, as of ``python -m isthmus.pocket.experts.imagebind``."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Callable
from typing import Any

import torch

from isthmus.paths import user_path


def run(train: Callable[..., Any], **folders: str | None) -> None:
    """Trains with the options ``--effort`` and ``--seed``, and one for each folder; prints the figures, if any.

    Args:
        train: takes ``effort``, ``seed`` and the folders by name.
        folders: their defaults.
    """
    parser = argparse.ArgumentParser(description=sys.modules[train.__module__].__doc__)
    for name, default in folders.items():
        parser.add_argument(f"--{name}", type=user_path, default=default)
    parser.add_argument("--effort", type=float, default=1.0, help="scales the number of steps")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(1)  # small layers: a second thread costs more than it brings
    if figures := train(**vars(given)):
        print(json.dumps(figures, indent=2))
