"""Draws the matrix as a heat map."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np


def draw_heatmap(axes: Any, matrix: Mapping[str, Any], attribute: str | None = None) -> None:
    """Draws inputs as rows, outputs as columns, and accuracies as colours and numbers; other cells stay empty.

    Args:
        axes: matplotlib's, such as ``plt.subplots()[1]``; matplotlib itself comes with the ``notebooks`` extra.
        matrix: from :func:`isthmus.evaluation.matrix.table.matrix_report`, or read from ``matrix.json``.
        attribute: whose accuracy is drawn; each cell's first attribute if None.

    Raises:
        ValueError: no cell was measured, or none has this attribute.
    """
    pairs = [cell.split("->") for cell in matrix["cells"]]
    inputs, outputs = (list(dict.fromkeys(pair[side] for pair in pairs)) for side in (0, 1))
    shares = np.full((len(inputs), len(outputs)), np.nan)
    labels = {}
    for (given, output), entry in zip(pairs, matrix["cells"].values(), strict=True):
        carried = entry["by_attribute"] if entry else {}
        name = attribute or next(iter(carried), None)
        if name in carried:
            place = inputs.index(given), outputs.index(output)
            shares[place] = entry[name]
            low, high = entry["interval"][name]
            labels[place] = f"{entry[name]:.2f}\n[{low:.2f}, {high:.2f}]"
    if not labels:
        found = sorted({name for entry in matrix["cells"].values() if entry for name in entry["by_attribute"]})
        raise ValueError(f"matrix: no cell has {attribute or 'figures'}; it has {', '.join(found) or 'none'}: name one")
    picture = axes.imshow(shares, vmin=0, vmax=1, cmap="RdYlGn", aspect="auto")
    axes.set_xticks(range(len(outputs)), outputs)
    axes.set_yticks(range(len(inputs)), inputs)
    axes.set(xlabel="output", ylabel="input", title=f"accuracy by {attribute or 'first attribute'}")
    for (row, column), label in labels.items():
        axes.text(column, row, label, ha="center", va="center", fontsize=9)
    axes.figure.colorbar(picture, ax=axes)
