"""Rows of a batch run through an LLM one after another, unpadded: only attention, which must tell them apart, pads.

Linear layers and norms, which are nearly all of the work, see a batch of one row that holds every valid position and no
other (Krell et al., arXiv 2107.02027, call it packing). Attention gets its queries, keys and values back in rows, in
blocks of rows of like length.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from isthmus.backbones.attention import opaque
from isthmus.backbones.attention.row_block import RowBlock

IMPLEMENTATION = "isthmus_packed"
"""Under this name ``transformers`` finds :func:`packed_attention`."""


class PackedPass:
    """What attention has to know of a pass over positions ``starts[r]`` to ``ends[r]`` of every row r.

    Args:
        starts: of each row, its first position in this pass; what lies before has been run by ``before``.
        ends: of each row, one past its last position.
        cuts: numbers of the rows with which the second and every later block begins.
        device: where the pass runs.
        before: the pass over the rows' beginnings, in the same blocks; it must have been told to keep its keys.
        keeps: whether the next pass needs this one's keys and values.

    Attributes:
        rows: (N,), of each packed position its row.
        positions: (N,), its place in this row.
        handle: by which compiled layers know it.
    """

    def __init__(
        self,
        starts: Sequence[int],
        ends: Sequence[int],
        cuts: Sequence[int],
        device: torch.device,
        before: PackedPass | None = None,
        keeps: bool = False,
    ) -> None:
        earlier: list[RowBlock | None] = [None] * (len(cuts) + 1)
        if before is not None:
            earlier = list(before.blocks)
        self.blocks: list[RowBlock] = [
            RowBlock(starts[first:last], ends[first:last], device, block, keeps)
            for (first, last), block in zip(pairwise([0, *cuts, len(starts)]), earlier, strict=True)
        ]
        self.slices = list(pairwise(accumulate((block.count for block in self.blocks), initial=0)))
        self.rows = torch.cat([block.rows + first for block, first in zip(self.blocks, [0, *cuts], strict=True)])
        self.positions = torch.cat([block.positions for block in self.blocks])
        self.handle = opaque.handle_of(self)

    def attend(self, states: tuple[Tensor, Tensor, Tensor], layer: int, scale: float, window: int | None) -> Tensor:
        """Queries, keys and values (1, H, N, D) of a layer -> (1, N, H, D)."""
        from transformers.integrations.sdpa_attention import sdpa_attention_forward

        heads: Any = SimpleNamespace(num_key_value_groups=states[0].shape[1] // states[1].shape[1])
        found = []
        for block, (first, last) in zip(self.blocks, self.slices, strict=True):
            if first == last and block.before is None and not block.keeps:
                continue
            query, key, value = (state[:, :, first:last] for state in states)
            if block.is_full and len(self.blocks) > 1 and query.requires_grad:
                # What is kept of a block for its gradient must not keep the others' too.
                query, key, value = query.clone(), key.clone(), value.clone()
            keys, values = (block.key_rows(layer, which, new) for which, new in enumerate((key, value)))
            if first == last:
                continue
            mask = block.mask(window)
            rows = block.query_rows(query)
            out, _ = sdpa_attention_forward(heads, rows, keys, values, mask, scaling=scale, is_causal=mask is None)
            found.append(block.packed(out))
        return found[0] if len(found) == 1 else torch.cat(found, 1)


def packed_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    packed: PackedPass | None = None,
    sliding_window: int | None = None,
    scaling: float | None = None,
    **options: Any,
) -> tuple[Tensor, Tensor | None]:
    """An attention function of ``transformers``: the library's own, between packed queries, keys and values.

    Args:
        module: the layer's attention; its ``layer_idx`` names the layer.
        query: (1, H, N, D); without ``packed`` (B, H, L, D), as the library has it.
        key: (1, H', N, D).
        value: (1, H', N, D).
        attention_mask: read without ``packed`` only.
        packed: the pass that is run.
        sliding_window: positions that a position sees, itself included; all before it if None.
        scaling: of the products of queries and keys; 1 / sqrt(D) if None.
        options: for the library's function, without ``packed``.

    Returns:
        (1, N, H, D), and None for the weights, which nobody reads.
    """
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    if packed is None:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, sliding_window=sliding_window, scaling=scaling, **options
        )
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    if torch.compiler.is_compiling():
        kind, where = query.device.type, (packed.handle, module.layer_number)
        if torch.is_autocast_enabled(kind):  # its casts aren't made within a compiled graph
            query, key, value = (state.to(torch.get_autocast_dtype(kind)) for state in (query, key, value))
        return opaque.packed_attention(query, key, value, *where, scale, sliding_window), None
    layer: Any = module.layer_idx
    return packed.attend((query, key, value), layer, scale, sliding_window), None


def register() -> None:
    """Makes ``transformers`` know :data:`IMPLEMENTATION`; passes that aren't packed get the masks of its ``sdpa``."""
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    AttentionInterface.register(IMPLEMENTATION, packed_attention)
    AttentionMaskInterface.register(IMPLEMENTATION, sdpa_mask)
