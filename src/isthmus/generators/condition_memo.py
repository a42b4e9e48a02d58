"""An in-memory LRU cache of conditions by caption."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from isthmus.layout import on_device


class ConditionMemo:
    """Keeps conditions on the device where they were computed, and drops the least recently used.

    Args:
        entries: the most captions that it keeps, at least one.
    """

    def __init__(self, entries: int) -> None:
        assert entries >= 1
        self.entries = entries
        self._rows: OrderedDict[str, Tensor] = OrderedDict()

    def __len__(self) -> int:
        return len(self._rows)

    def clear(self) -> None:
        """Drops all entries."""
        self._rows.clear()

    def look_up(self, captions: Sequence[str], compute: Callable[[list[str]], Tensor], device: torch.device) -> Tensor:
        """(B, C, K) on ``device``: all new captions are computed together, repeated ones once."""
        distinct = dict.fromkeys(captions)
        rows = {caption: self._recall(caption, device) for caption in distinct if caption in self._rows}
        missing = [caption for caption in distinct if caption not in rows]
        if missing:
            rows.update(zip(missing, compute(missing).unbind(), strict=True))
            for caption in missing:
                self._keep(caption, rows[caption])
        return torch.stack([rows[caption] for caption in captions])

    def _recall(self, caption: str, device: torch.device) -> Tensor:
        self._rows.move_to_end(caption)
        # The expert may have moved to another device since then; the row is moved once.
        row = self._rows[caption] = on_device(self._rows[caption], device)
        return row

    def _keep(self, caption: str, row: Tensor) -> None:
        # A view would keep its whole batch in memory as long as any of its rows is in use.
        self._rows[caption] = row.clone()
        while len(self._rows) > self.entries:
            self._rows.popitem(last=False)
