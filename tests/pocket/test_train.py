"""One command makes every embedded expert, in the folders and formats that the shipped ones have."""

from __future__ import annotations

from pathlib import Path

import pytest

from isthmus.pocket.train import train


@pytest.mark.slow
def test_one_command_makes_what_is_shipped(tmp_path: Path, repository: Path) -> None:
    figures = train(tmp_path / "made", tmp_path / "scratch", effort=0.001)
    shipped = repository / "checkpoints" / "pocket"
    made = {str(path.relative_to(tmp_path / "made")) for path in (tmp_path / "made").rglob("*") if path.is_file()}
    wanted = {str(path.relative_to(shipped)) for path in shipped.rglob("*") if path.is_file()}
    assert wanted - made <= {"README.md", "ceilings.json", "LICENSE", "pyproject.toml"}
    assert {"llama", "imagebind", "point_bert", "audioldm", "stable_diffusion", "zeroscope", "shap_e"} == figures.keys()
    assert all(
        0 <= value <= 1 for name in ("stable_diffusion", "zeroscope", "shap_e") for value in figures[name].values()
    )
