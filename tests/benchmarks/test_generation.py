"""Asked for the same, ours and the bare libraries give the same, in as many calls."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from benchmarks.generation import Calls, image_works, text_works


def test_text_is_the_librarys_own_in_as_many_calls(tmp_path: Path) -> None:
    works, module = text_works(tmp_path)
    answers, counts = {}, {}
    for who, work in works.items():
        with Calls(module) as calls:
            answers[who] = work()
        counts[who] = calls.count
    assert answers["ours"] == answers["bare"]
    assert counts["ours"] <= counts["bare"]


def test_pictures_are_the_pipelines_own_in_as_many_calls() -> None:
    works, module = image_works()
    assert module is not None
    with Calls(module) as calls:
        ours = works["ours"]()
    with Calls(module) as bare_calls:
        bare = works["bare"]()
    assert calls.count == bare_calls.count
    for medium, picture in zip(ours, bare, strict=True):
        expected = (picture.permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
        assert np.abs(medium.array.astype(int) - expected).max() <= 1
