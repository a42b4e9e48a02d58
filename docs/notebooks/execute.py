"""Executes notebooks on the model of `make quickstart` and keeps their outputs: `python docs/notebooks/execute.py`.

All of them, or those that are named: `... execute.py look bridges`.

The outputs that are shipped belong to the sources beside them: a digest of the sources is kept in the notebook's
metadata, and a test compares.
"""

from __future__ import annotations

import sys
from hashlib import sha256
from pathlib import Path
from typing import Any

import nbformat

FOLDER = Path(__file__).resolve().parent


def digest(notebook: Any) -> str:
    """Of the sources of a notebook's cells."""
    return sha256("\0".join(cell["source"] for cell in notebook["cells"]).encode()).hexdigest()


def execute(path: Path) -> None:
    """Runs a notebook in place. What it writes to stderr (progress bars of loading) isn't kept."""
    from nbclient import NotebookClient

    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=1800, record_timing=False, resources={"metadata": {"path": str(FOLDER)}}).execute()
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
    notebook.metadata = {"kernelspec": notebook.metadata["kernelspec"], "isthmus": {"outputs_of": digest(notebook)}}
    nbformat.write(notebook, path)


if __name__ == "__main__":
    for found in [FOLDER / f"{name}.ipynb" for name in sys.argv[1:]] or sorted(FOLDER.glob("*.ipynb")):
        execute(found)
