"""What a benchmark gives: a table on the terminal and the same as JSON."""

from __future__ import annotations

import json
import logging
import os
import platform
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

RESULTS = Path("runs/benchmarks")


def machine() -> dict[str, Any]:
    """The class of machine, without names."""
    import torch

    return {
        "processor": f"{platform.machine()}, {os.cpu_count()} cores",
        "threads": torch.get_num_threads(),
        "accelerator": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
        "clock": os.environ.get("ISTHMUS_BENCHMARK_CLOCK", "wall"),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def report(name: str, rows: Sequence[Mapping[str, Any]], folder: Path = RESULTS, **facts: Any) -> Path:
    """Prints the rows as a table and writes them to ``folder/name.json``; the file."""
    print(f"\n{name}: {facts}" if facts else f"\n{name}")
    print(table(rows))
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{name}.json"
    content = {"benchmark": name, "machine": machine(), **facts, "rows": list(rows)}
    file.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    return file


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows under the names of their columns, which may differ from row to row."""
    columns = list(dict.fromkeys(column for row in rows for column in row))
    cells = [columns, *([_cell(row.get(column)) for column in columns] for row in rows)]
    widths = [max(len(line[at]) for line in cells) for at in range(len(columns))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in cells)


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def quieten() -> None:
    """Leaves the terminal to tables."""
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")
    for name in ("isthmus", "pytorch_lightning", "lightning.pytorch"):
        logging.getLogger(name).setLevel(logging.ERROR)
