"""Views of one medium: room for the most, real ones told apart, and views of views."""

from __future__ import annotations

import torch

from isthmus.encoders.views import first_views, stacked_views


def view(value: float, count: int) -> dict[str, torch.Tensor]:
    return {"pixels": torch.full((3, 2, 2), value), "view_count": torch.tensor(count)}


def test_real_views_come_back_in_order() -> None:
    views = [view(1.0, 4), view(2.0, 5)]
    inputs = stacked_views(views, 3)
    assert {key: tuple(value.shape) for key, value in inputs.items()} == {
        "view_count": (), "view.pixels": (3, 3, 2, 2), "view.view_count": (3,)
    }  # fmt: skip
    assert not inputs["view.pixels"][2].any()
    back = first_views(inputs)
    assert len(back) == 2
    for one, other in zip(views, back, strict=True):
        assert all(torch.equal(one[key], other[key]) for key in one)
    twice = first_views(first_views(stacked_views([inputs, inputs], 4))[1])
    assert [float(one["pixels"].max()) for one in twice] == [1.0, 2.0]
