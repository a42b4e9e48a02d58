"""DPG-Bench's grids: all pictures of a prompt in one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from isthmus.data.media.files import save_media
from isthmus.evaluation.exports.files import AnswerFiles
from isthmus.evaluation.metrics.base import Figure, Processes
from isthmus.evaluation.predictions.answered import Answered
from isthmus.types import Media, Modality

MOST = 4
"""Pictures in a grid."""


class DPGBenchGrids(AnswerFiles):
    """Answers to :class:`isthmus.data.formats.benchmarks.DPGBench` as its ``compute_dpg_bench.py`` reads them.

        midjourney3.png    1 picture; or 2 by 2 of them, sample 0 and 1 above, 2 and 3 below

    It is told the pictures' side (``--resolution``, the detail of the figure's protocol) and their number
    (``--pic-num``). A sample without a picture is black in its place.

    Source: ``dpg_bench/compute_dpg_bench.py`` of https://github.com/TencentQQGYLab/ELLA.

    Args:
        folder: what ``--image-root-path`` names.
    """

    def __init__(self, folder: str | Path) -> None:
        super().__init__(folder, "image", "{key}.png")

    def measure(self, answers: Sequence[Answered], processes: Processes) -> Mapping[str, Figure]:
        """Writes the grids; ``answered`` is the share of samples with a picture.

        Raises:
            ValueError: a prompt has more than four samples, pictures aren't square or differ in size; or see
                :meth:`AnswerFiles.measure`.
        """
        answers = list(answers)
        prompts: dict[str, list[Answered]] = {}
        for answer in answers:
            prompts.setdefault(self.name(answer), []).append(answer)
        self.check(list(prompts), answers[0].source)
        for name, own in prompts.items():
            if len(own) > MOST:
                raise ValueError(
                    f"{name}: found {len(own)} samples; expected at most {MOST}, which a grid holds. Fix: lower "
                    "'samples' of the test source."
                )
        told = processes.map(self._grids, list(prompts.items()), 4, what=f"grids in {self.folder}")
        sides = {side for side, _ in told if side}
        if len(sides) > 1:
            raise ValueError(
                f"{self.folder}: found pictures of {', '.join(map(str, sorted(sides)))} pixels; expected one size, "
                "which the scorer is told. Fix: let the generator make one."
            )
        written = {key: value for _, scores in told for key, value in scores.items()}
        marks = [written[answer.id] for answer in answers]
        return {"image/answered": self.figure(marks, answers, processes, {"resolution": next(iter(sides), 0)})}

    def _grids(self, prompts: Sequence[tuple[str, Sequence[Answered]]]) -> list[tuple[int, dict[str, float]]]:
        return [self._grid(self.folder / name, own) for name, own in prompts]

    def _grid(self, target: Path, own: Sequence[Answered]) -> tuple[int, dict[str, float]]:
        """Writes a prompt's grid; the side of its pictures, and 1 for each sample that has one."""
        pictures = [answer.media(Modality.IMAGE)[:1] for answer in own]
        shapes = {media.array.shape[:2] for found in pictures for media in found}
        if any(height != width for height, width in shapes) or len(shapes) > 1:
            raise ValueError(
                f"{target.stem}: found pictures of {', '.join(f'{w} x {h}' for h, w in sorted(shapes))} pixels; "
                "expected squares of one size, as the scorer cuts them. Fix: let the generator make these."
            )
        scores = {answer.id: float(bool(found)) for answer, found in zip(own, pictures, strict=True)}
        if not shapes:
            target.unlink(missing_ok=True)
            return 0, scores
        ((side, _),) = shapes
        across = 1 if len(own) == 1 else 2
        grid = np.zeros((across * side, across * side, 3), dtype=np.uint8)
        for sample, found in enumerate(pictures):
            for media in found:
                row, column = divmod(sample, across)
                grid[row * side : (row + 1) * side, column * side : (column + 1) * side] = media.array
        save_media(Media(Modality.IMAGE, grid), target)
        return side, scores
