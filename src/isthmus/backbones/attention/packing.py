"""Packed passes through an LLM of ``transformers``: whether it can run them, and a batch of rows run so."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from isthmus.backbones.attention.opaque import number_layers
from isthmus.backbones.attention.packed import IMPLEMENTATION, PackedPass, register

log = logging.getLogger(__name__)

TRIED = (2, 3)
"""Lengths of the rows on which an LLM is tried."""


LIKE = 0.8
"""Rows of a block have at least this share of its longest's positions."""
WORTH = 64
"""Positions of padding whose attention costs as much as a further call."""


class Packer:
    """Runs rows through an LLM without padding."""

    def __init__(self) -> None:
        self._fits: bool | None = None

    def __setstate__(self, state: dict[str, Any]) -> None:
        # An LLM that was pickled asks for its attention by name, in another process too.
        self.__dict__.update(state)
        register()

    def fits(self, llm: Any) -> bool:
        """Whether this LLM runs packed rows rightly: found out once, on two short rows, with all its layers.

        It doesn't where its attention can't be exchanged, or where a layer that is no attention reads beyond a
        position (a convolution, a recurrent state). Adapters' dropout has to be off the first time.
        """
        if self._fits is None:
            with torch.compiler.set_stance("force_eager"):  # nothing is compiled for a trial
                self._fits = _can_pack(llm)
            if self._fits:
                number_layers(llm)
            else:
                log.info("%s doesn't run packed rows; rows of like length run together", type(llm).__name__)
        return self._fits

    def run(
        self,
        llm: Any,
        embeddings: Tensor,
        lengths: Sequence[int],
        firsts: Sequence[int],
        short_prefix: int = 0,
    ) -> Tensor:
        """Final, normalised states (B, T, E), zero beyond a row's length.

        Args:
            llm: one that :meth:`fits`.
            embeddings: (B, T, E), rows padded on the right.
            lengths: of each row.
            firsts: of each row, the first position that a gradient has to reach: those before run without autograd.
            short_prefix: where fewer positions than these would run without autograd, all run with it.
        """
        rows, total, width = embeddings.shape
        order, cuts = blocks(lengths)
        ends = [lengths[row] for row in order]
        prefixes = [min(firsts[row], lengths[row]) for row in order]
        if sum(prefixes) < short_prefix:
            prefixes = [0] * rows
        flat = embeddings.reshape(rows * total, width)
        before, states, places = None, [], []
        passes: list[PackedPass] = []
        starts = torch.tensor(order).to(flat.device, non_blocking=True) * total
        if any(prefixes):
            before = PackedPass([0] * rows, prefixes, cuts, flat.device, keeps=True)
            passes.append(before)
            places.append(starts[before.rows] + before.positions)
            with torch.no_grad():
                states.append(_transform(llm, flat[places[0]], before))
        if prefixes != ends:
            after = PackedPass(prefixes, ends, cuts, flat.device, before)
            passes.append(after)
            places.append(starts[after.rows] + after.positions)
            states.append(_transform(llm, flat[places[-1]], after))
        found = torch.cat(states)
        empty = found.new_zeros(rows * total, found.shape[1])
        whole = empty.index_copy(0, torch.cat(places), found)
        if whole.grad_fn is not None:
            metadata: dict[str, Any] = whole.grad_fn.metadata  # type: ignore[assignment]  # annotated as a method
            metadata["passes"] = passes  # the backward pass of compiled layers asks for them
        return whole.view(rows, total, -1)


def blocks(lengths: Sequence[int]) -> tuple[list[int], list[int]]:
    """Rows in the order of their lengths, and where this order is cut, so that no block's attention pads much.

    A cut is made where a row has less than :data:`LIKE` of its block's longest, and as long as what is spared, up to
    the next cut, is worth a further call.
    """
    order = sorted(range(len(lengths)), key=lambda row: -lengths[row])
    cuts, longest = [], lengths[order[0]]
    for place, row in enumerate(order):
        if lengths[row] < LIKE * longest and (longest - lengths[row]) * (len(order) - place) >= WORTH:
            cuts.append(place)
            longest = lengths[row]
    return order, cuts


def _transform(llm: Any, embeddings: Tensor, packed: PackedPass) -> Tensor:
    """(N, E) -> final, normalised states (N, E).

    A mask of four axes is taken for a finished one: none is built, and none is read.
    """
    states: Tensor = llm.base_model(
        inputs_embeds=embeddings[None],
        attention_mask=torch.ones(1, 1, 1, 1, dtype=torch.bool, device=embeddings.device),
        position_ids=packed.positions[None],
        use_cache=False,
        packed=packed,
    ).last_hidden_state
    return states[0]


@torch.no_grad()
def _can_pack(llm: Any) -> bool:
    """Exchanges the LLM's attention and compares what it says of two rows; an LLM that can't gets its own back."""
    words = llm.get_input_embeddings()
    device, count = words.weight.device, len(words.weight)
    own = llm.config._attn_implementation
    if words.weight.is_meta or own != "sdpa" or not getattr(llm, "_supports_attention_backend", False):
        return False
    lengths, longest = list(TRIED), max(TRIED)
    tried = torch.arange(longest * len(TRIED), device=device).view(len(TRIED), longest)
    rows = words((tried + count // 2).clamp(max=count - 1))  # the first ones may be padding, which is zero
    mask = torch.arange(longest, device=device) < torch.tensor(lengths, device=device)[:, None]
    expected = llm.base_model(inputs_embeds=rows, attention_mask=mask, use_cache=False).last_hidden_state[mask]
    register()
    try:
        llm.set_attn_implementation(IMPLEMENTATION)
        found = Packer().run(llm, rows, lengths, [0, 1])[mask]
    except (TypeError, ValueError, KeyError, IndexError, AttributeError, RuntimeError) as error:
        log.debug("packed rows: %s", error)
        found = torch.full_like(expected, torch.nan)
    apart = (found.float() - expected.float()).norm(dim=-1) / expected.float().norm(dim=-1)
    is_right = bool((apart < (1e-3 if expected.dtype == torch.float32 else 0.1)).all())
    if not is_right:
        llm.set_attn_implementation(own)
    return is_right
