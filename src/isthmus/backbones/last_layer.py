"""The last layer's feed-forward block runs at those positions alone whose final state is read.

Attention lets a position see others; nothing behind the last attention does. So where neither a target is predicted nor
a signal run stands, the rest of the last layer is work for nobody.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from torch import Tensor, nn


def read_alone(layer: nn.Module) -> None:
    """From now on this last layer's ``mlp`` heeds a pass's ``read``, where it has one; elsewhere it gives zeros.

    Layers whose feed-forward block has another name, or gives more than states, stay as they are.
    """
    block = getattr(layer, "mlp", None)
    if not isinstance(block, nn.Module):
        return
    own = _Reader(block.forward)
    block.forward = own
    forward = layer.forward

    @wraps(forward)
    def run(*args: Any, **kwargs: Any) -> Any:
        own.read = getattr(kwargs.get("packed"), "read", None)
        try:
            return forward(*args, **kwargs)
        finally:
            own.read = None

    layer.forward = run


class _Reader:
    """A feed-forward block's forward, at some positions.

    Attributes:
        read: (n,), which of the packed positions; all of them if None.
    """

    def __init__(self, forward: Callable[..., Any]) -> None:
        self.forward = forward
        self.read: Tensor | None = None

    def __call__(self, states: Tensor, *args: Any, **kwargs: Any) -> Any:
        """(1, N, E) -> (1, N, E)."""
        if self.read is None or args or kwargs:
            return self.forward(states, *args, **kwargs)
        found = self.forward(states[:, self.read])
        if not isinstance(found, Tensor):
            return self.forward(states)
        return found.new_zeros(states.shape).index_copy(1, self.read, found)
