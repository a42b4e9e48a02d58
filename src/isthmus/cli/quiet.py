"""Libraries' remarks that don't concern a user of this command line. What does concern one is left alone."""

from __future__ import annotations

import logging
import warnings

REMARKS = (
    "Tip:",
    "TPU available: False",
    "Trainer already configured with model summary callbacks",
    "`Trainer.fit` stopped: `max_epochs=",  # an epoch is a stage: the last one's end is told by its own line
    "Seed set to",  # config.yaml has it
)
"""What messages of Lightning's hold that advertise, or tell of what isn't there or is meant to be so."""

LOGGERS = (
    "pytorch_lightning",
    "pytorch_lightning.utilities.rank_zero",
    "lightning_fabric.utilities.seed",
    "lightning_utilities.core.rank_zero",
)


def hush() -> None:
    """Silences bars for every file that is read, advertisements, and warnings about what is meant to be so."""
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    # Frozen experts are in eval mode while their neighbours train.
    warnings.filterwarnings("ignore", message=r"Found \d+ module\(s\) in eval mode at the start of training")
    # No validation data is a valid choice.
    warnings.filterwarnings("ignore", message="Total length of `list` across ranks is zero")
    # The console script hands its arguments over.
    warnings.filterwarnings("ignore", message="LightningCLI's args parameter is intended to run from within Python")
    # Between Lightning and torch.
    warnings.filterwarnings("ignore", message=r"`isinstance\(treespec, LeafSpec\)` is deprecated")
    # A process may write or read a checkpoint's shards by itself.
    warnings.filterwarnings("ignore", message="torch.distributed is disabled, unavailable or uninitialized")
    # The module adds up what it counts by itself, for all figures at once.
    warnings.filterwarnings("ignore", message=r"It is recommended to use `self\.log\('validation/")
    for name in LOGGERS:
        logging.getLogger(name).addFilter(_concerns_a_user)


def _concerns_a_user(record: logging.LogRecord) -> bool:
    return not any(remark in record.getMessage() for remark in REMARKS)
