"""The heat map shows the matrix's figures."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from drawn_answers import VALUES, drawn_replies, pocket_judges
from matplotlib.figure import Figure
from PIL import Image

from isthmus.evaluation import Measurement
from isthmus.evaluation.matrix.heatmap import draw_heatmap
from isthmus.pocket.cells import MatrixCells


@pytest.fixture(scope="module")
def matrix(repository: Path) -> dict[str, Any]:
    source = MatrixCells(per_cell=2)
    measurement = Measurement(pocket_judges(repository), VALUES)
    measurement.add(None, *drawn_replies(source, range(len(source)), {0: "digit", 3: "missing"}))  # type: ignore[arg-type]
    return measurement.matrix()


def test_every_cell_is_drawn_at_its_place(matrix: dict[str, Any]) -> None:
    figure = Figure(layout="constrained")
    axes = figure.subplots()
    draw_heatmap(axes, matrix)
    inputs, outputs = (
        [label.get_text() for label in labels] for labels in (axes.get_yticklabels(), axes.get_xticklabels())
    )
    assert inputs == outputs == ["text", "image", "video", "audio", "points"]
    shown = np.asarray(axes.images[0].get_array())
    for (row, given), (column, output) in ((r, c) for r in enumerate(inputs) for c in enumerate(outputs)):
        assert shown[row, column] == matrix["cells"][f"{given}->{output}"]["digit"]
    assert len(axes.texts) == 25 and shown.min() == 0.5
    file = io.BytesIO()
    figure.savefig(file, format="png")
    assert min(Image.open(file).size) > 100


def test_cells_without_the_attribute_stay_empty(matrix: dict[str, Any]) -> None:
    axes = Figure().subplots()
    draw_heatmap(axes, matrix, "motion")
    carried = [cell for cell, entry in matrix["cells"].items() if entry.get("motion") is not None]
    assert len(axes.texts) == len(carried) == 4
    with pytest.raises(ValueError, match="no cell has smell; it has colour, digit, motion"):
        draw_heatmap(axes, matrix, "smell")
    with pytest.raises(ValueError, match="it has none"):
        draw_heatmap(axes, {"cells": {"text->text": None}})
