"""Writes a test run's figures."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from isthmus.evaluation.comparing.stored import PROTOCOL
from isthmus.evaluation.report.protocol import protocol
from isthmus.writing import write_file

log = logging.getLogger(__name__)


def write_report(
    trainer: pl.Trainer,
    folder: Path | None,
    name: str,
    report: Mapping[str, Any],
    what: str,
    own: Mapping[str, Any] | None = None,
) -> None:
    """Writes figures as JSON into a folder, the run's own if None; a trial run (``fast_dev_run``) writes no file.

    The file also has the protocol by which they were measured, under ``protocol``.

    Args:
        trainer: of the test run.
        folder: see above.
        name: of the file.
        report: the figures.
        what: they are, for the log.
        own: what the evaluation adds to the protocol, such as its judges.

    Raises:
        ValueError: the file can't be written.
    """
    if trainer.fast_dev_run:  # type: ignore[attr-defined]  # set by a connector
        log.info("a trial run: %s weren't written", what)
        return
    path = (Path(trainer.default_root_dir) if folder is None else folder) / name
    whole = {**report, PROTOCOL: protocol(trainer, own or {})}
    write_file(path, (json.dumps(whole, indent=2) + "\n").encode())
    log.info("%s are in %s", what, path)
