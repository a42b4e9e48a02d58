from pathlib import Path

import pytest
from runs import fit
from tiny_world import tiny_experts

from isthmus.model import AnyToAny


@pytest.fixture(scope="session")
def experts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return tiny_experts(tmp_path_factory.mktemp("experts"))


@pytest.fixture(scope="session")
def whole(experts: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, AnyToAny, list[float]]:
    """The curriculum, never broken off."""
    folder = tmp_path_factory.mktemp("whole")
    model, diary = fit(experts, folder)
    return folder, model, diary.losses
