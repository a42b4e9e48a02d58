from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny_world import tiny_model

from isthmus.model import AnyToAny


@pytest.fixture
def build(experts: dict[str, Path]) -> Callable[..., AnyToAny]:
    """A built model of the tiny experts; keywords are those of ``tiny_model``."""

    def make(**options: Any) -> AnyToAny:
        model = tiny_model(experts, **options)
        model.configure_model()
        return model

    return make
