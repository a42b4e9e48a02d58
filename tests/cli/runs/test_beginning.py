"""What a run that is started again does with a folder in which there is nothing to go on from."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from isthmus.cli.runs.beginning import begin
from isthmus.writing import write_folder


def test_a_restart_begins_anew_where_stages_are_over_and_no_checkpoint_was_due(tmp_path: Path) -> None:
    switch: Any = SimpleNamespace(folder=tmp_path, init_from=None, names=["one", "two"])
    write_folder(tmp_path / "one", {"manifest.json": b"{}"})
    with pytest.raises(ValueError, match="holds a run already"):
        begin(switch, overwrites=False, is_first=True)
    begin(switch, overwrites=False, is_first=True, goes_on=True)
    assert (tmp_path / "previous-1/one/manifest.json").is_file() and not (tmp_path / "one").exists()
    for name in switch.names:  # a run that is over isn't done again
        write_folder(tmp_path / name, {"manifest.json": b"{}"})
    with pytest.raises(ValueError, match="holds a run already"):
        begin(switch, overwrites=False, is_first=True, goes_on=True)
