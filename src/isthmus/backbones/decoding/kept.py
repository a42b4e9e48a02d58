"""What later requests may need again, within a budget of memory: the least recently used goes first."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any


class Kept:
    """Values by the digest of what they were computed from.

    Args:
        budget: bytes of all values.

    Attributes:
        size: bytes that they take now.
    """

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self.size = 0
        self._held: OrderedDict[bytes, tuple[Any, int]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._held)

    def get(self, name: bytes) -> Any:
        """The value of that name, which is then the most recently used; None if it isn't kept."""
        if name not in self._held:
            return None
        self._held.move_to_end(name)
        return self._held[name][0]

    def keep(self, name: bytes, value: Any, size: int) -> None:
        """Keeps a value of so many bytes, unless it exceeds the budget by itself."""
        if name in self._held or size > self.budget:
            return
        self._held[name] = value, size
        self.size += size
        while self.size > self.budget:
            self.size -= self._held.popitem(last=False)[1][1]
