"""Modules under the names that they had in 0.1."""

from __future__ import annotations

import sys
from importlib import import_module

import pytest

from isthmus.earlier.modules import MOVED, redirect
from isthmus.generators import StableDiffusion


@pytest.mark.parametrize("old", MOVED)
def test_an_earlier_name_gives_the_module_itself(old: str) -> None:
    sys.modules.pop(old, None)
    now = import_module(MOVED[old])
    with pytest.warns(FutureWarning, match=f"{old} is called {MOVED[old]} now"):
        assert import_module(old) is now
    assert now.__name__ == MOVED[old]
    assert now.__spec__ is not None and now.__spec__.name == MOVED[old], "importing it again finds it on the disk"


def test_no_earlier_name_is_one_of_today() -> None:
    redirect()
    assert sum(type(finder).__name__ == "MovedFinder" for finder in sys.meta_path) == 1
    with pytest.raises(ModuleNotFoundError):
        import_module("isthmus.generators.never_was")


def test_rooms_export_their_parts() -> None:
    import isthmus.generators

    assert StableDiffusion.__module__ == "isthmus.generators.image.stable_diffusion"
    assert "ShapE" in dir(isthmus.generators)
    with pytest.raises(AttributeError, match="no attribute 'Dalle'; it exports Stab"):
        isthmus.generators.Dalle  # noqa: B018
