"""Packed passes: a batch's rows are concatenated without padding; only attention, which must separate them, pads.

Linear layers and norms, which are nearly all of the cost, process one row of all valid positions (packing; Krell et
al., arXiv 2107.02027). For attention, queries, keys and values are arranged in rows again, in blocks of similar length.
Rows that begin alike, with a template's system message or with one prompt, share these positions.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from itertools import accumulate, pairwise
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from isthmus.backbones.attention import opaque
from isthmus.backbones.attention.row_block import RowBlock
from isthmus.backbones.attention.slot_pass import SlotPass
from isthmus.layout import on_device

IMPLEMENTATION = "isthmus_packed"
"""Under this name ``transformers`` finds :func:`packed_attention`."""


class PackedPass:
    """The layout that attention needs for a pass over positions ``starts[r]`` to ``ends[r]`` of every row r.

    Args:
        starts: first position of each row in this pass; earlier ones have been run by ``before``.
        ends: one past the last position of each row.
        cuts: indices of the rows at which the second and every later block begins.
        device: of the pass.
        before: the pass over the rows' prefixes, in the same blocks, made with ``keeps``.
        keeps: whether the next pass needs this one's keys and values.
        common: how many first positions each row has in common with the row before it, of the same block; none if None.

    Attributes:
        rows: (N,), the row of each packed position.
        positions: (N,), its position in this row.
        copies: (3, c), of each further place where a packed position stands: row, position, and which of the N it is.
        handle: by which compiled layers refer to it.
        is_compiled: whether any has, so that their backward pass needs it too.
    """

    def __init__(
        self,
        starts: Sequence[int],
        ends: Sequence[int],
        cuts: Sequence[int],
        device: torch.device,
        before: PackedPass | None = None,
        keeps: bool = False,
        common: Sequence[int] | None = None,
    ) -> None:
        earlier: list[RowBlock | None] = [None] * (len(cuts) + 1)
        if before is not None:
            earlier = list(before.blocks)
        alike = common or [0] * len(starts)
        self.blocks: list[RowBlock] = [
            RowBlock(starts[first:last], ends[first:last], device, block, keeps, alike[first:last])
            for (first, last), block in zip(pairwise([0, *cuts, len(starts)]), earlier, strict=True)
        ]
        self.counts = [block.count for block in self.blocks]
        firsts = list(zip(self.blocks, [0, *cuts], accumulate(self.counts, initial=0), strict=False))
        self.rows = torch.cat([block.rows + row for block, row, _ in firsts])
        self.positions = torch.cat([block.positions for block in self.blocks])
        self.copies = torch.cat(
            [block.copies + on_device([[row], [0], [packed]], device) for block, row, packed in firsts], 1
        )
        self.handle = opaque.handle_of(self)
        self.is_compiled = False

    def attend(self, states: tuple[Tensor, Tensor, Tensor], layer: int, scale: float, window: int | None) -> Tensor:
        """Queries, keys and values (1, H, N, D) of a layer -> (1, N, H, D)."""
        from transformers.integrations.sdpa_attention import sdpa_attention_forward

        heads: Any = SimpleNamespace(num_key_value_groups=states[0].shape[1] // states[1].shape[1])
        found = []
        # Split at once: the gradient of one slice of many is as large as the whole, zeros but for the slice.
        parts = zip(*(state.split(self.counts, 2) for state in states), strict=True)
        for block, part in zip(self.blocks, parts, strict=True):
            if not block.count and block.before is None and not block.keeps:
                continue
            query, key, value = part
            if block.is_full and len(self.blocks) > 1 and query.requires_grad:
                # Views that are saved for a block's gradient would keep the other blocks' memory too.
                query, key, value = query.clone(), key.clone(), value.clone()
            keys, values = (block.key_rows(layer, which, new) for which, new in enumerate((key, value)))
            if not block.count:
                continue
            mask = block.mask(window)
            rows = block.query_rows(query)
            in_float32 = rows.device.type == "cpu" and rows.itemsize < 8
            if in_float32:
                # At the lengths of conversations the CPU's kernel takes several times as long for a backward pass in
                # bfloat16 as in float32. Passes without gradients are computed likewise, so that a reference equals
                # what it is a reference of. Autocast would turn the inputs back.
                rows, keys, values = rows.float(), keys.float(), values.float()
            with torch.autocast("cpu", enabled=False) if in_float32 else nullcontext():
                out, _ = sdpa_attention_forward(heads, rows, keys, values, mask, scaling=scale, is_causal=mask is None)
            found.append(block.packed(out.to(query.dtype)))
        return found[0] if len(found) == 1 else torch.cat(found, 1)


def packed_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    packed: PackedPass | SlotPass | None = None,
    sliding_window: int | None = None,
    scaling: float | None = None,
    **options: Any,
) -> tuple[Tensor, Tensor | None]:
    """An attention function for ``transformers``: the library's own, on packed queries, keys and values.

    Args:
        module: the layer's attention; its ``layer_idx`` names the layer.
        query: (1, H, N, D); without ``packed`` (B, H, L, D), as in the library.
        key: (1, H', N, D).
        value: (1, H', N, D).
        attention_mask: used only without ``packed``.
        packed: the pass.
        sliding_window: number of positions that a position attends to, itself included; all before it if None.
        scaling: of the products of queries and keys; 1 / sqrt(D) if None.
        options: for the library's function, without ``packed``.

    Returns:
        (1, N, H, D), and None for the weights, which aren't used.
    """
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    if packed is None:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, sliding_window=sliding_window, scaling=scaling, **options
        )
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    if torch.compiler.is_compiling():
        assert isinstance(packed, PackedPass), "decoding isn't compiled"
        kind, where = query.device.type, (packed.handle, module.layer_number)
        if torch.is_autocast_enabled(kind):  # a compiled graph doesn't apply its casts
            query, key, value = (state.to(torch.get_autocast_dtype(kind)) for state in (query, key, value))
        return opaque.packed_attention(query, key, value, *where, scale, sliding_window), None
    layer: Any = module.layer_idx
    return packed.attend((query, key, value), layer, scale, sliding_window), None


def register() -> None:
    """Registers :data:`IMPLEMENTATION` with ``transformers``; unpacked passes get the masks of its ``sdpa``."""
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    AttentionInterface.register(IMPLEMENTATION, packed_attention)
    AttentionMaskInterface.register(IMPLEMENTATION, sdpa_mask)
