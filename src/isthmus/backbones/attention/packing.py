"""Runs a batch of rows through an LLM of ``transformers`` as packed passes, and checks whether the LLM supports it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from isthmus.backbones.attention.opaque import number_layers
from isthmus.backbones.attention.packed import IMPLEMENTATION, PackedPass, register
from isthmus.backbones.attention.slot_pass import SlotPass
from isthmus.frozen import is_shapes_only
from isthmus.layout import Beginnings

log = logging.getLogger(__name__)

PROBE_LENGTHS = (2, 3)
"""Lengths of the rows on which an LLM is tested."""


LEAST_SHARE = 0.8
"""The least length of a block's rows, as a share of its longest."""
CALL_COST = 64
"""Positions of padding whose attention costs as much as a further call."""


class Packer:
    """Runs rows through an LLM without padding."""

    def __init__(self) -> None:
        self._fits: bool | None = None

    def __setstate__(self, state: dict[str, Any]) -> None:
        # A pickled LLM looks its attention up by name, which must be registered in the new process.
        self.__dict__.update(state)
        register()

    @property
    def is_tested(self) -> bool:
        """Whether :meth:`fits` knows the answer."""
        return self._fits is not None

    def fits(self, llm: Any) -> bool:
        """Whether this LLM's output for packed rows is right: tested once, on two short rows, with all layers.

        It isn't if its attention can't be replaced, or if another kind of layer mixes positions (a convolution, a
        recurrent state). Adapters' dropout must be off at the first call.
        """
        if self._fits is None:
            with torch.compiler.set_stance("force_eager"):  # the test is not compiled
                self._fits = _can_pack(llm)
            if self._fits:
                number_layers(llm)
            else:
                log.info("%s can't run packed rows; rows of similar length run together", type(llm).__name__)
        return self._fits

    def run(
        self,
        llm: Any,
        embeddings: Tensor,
        lengths: Sequence[int],
        firsts: Sequence[int],
        short_prefix: int = 0,
        beginnings: Beginnings | None = None,
    ) -> Tensor:
        """Final, normalised states (B, T, E), zero beyond a row's length.

        Args:
            llm: one for which :meth:`fits` is true.
            embeddings: (B, T, E), right-padded.
            lengths: of each row.
            firsts: first position of each row that needs a gradient: earlier ones run without autograd.
            short_prefix: if fewer positions than this would run without autograd, all run with it.
            beginnings: which rows begin alike. What they have in common runs once for those of a block. A dropout
                draws for it once, too.
        """
        rows, total, width = embeddings.shape
        order, cuts = blocks(lengths)
        common = [0] * rows
        if beginnings is not None:
            order, common = _neighbours(order, cuts, beginnings)
        ends = [lengths[row] for row in order]
        prefixes = [min(firsts[row], lengths[row]) for row in order]
        if sum(max(prefix - alike, 0) for prefix, alike in zip(prefixes, common, strict=True)) < short_prefix:
            prefixes = [0] * rows
        flat = embeddings.reshape(rows * total, width)
        before, states, places = None, [], []
        passes: list[PackedPass] = []
        starts = torch.tensor(order).to(flat.device, non_blocking=True) * total

        def run(packed: PackedPass) -> None:
            passes.append(packed)
            places.append(starts[packed.rows] + packed.positions)
            states.append(transform(llm, flat[places[-1]], packed))
            if packed.copies.shape[1]:
                of, positions, copied = packed.copies
                places.append(starts[of] + positions)
                states.append(states[-1].index_select(0, copied))

        if any(prefixes):
            before = PackedPass([0] * rows, prefixes, cuts, flat.device, keeps=True, common=common)
            with torch.no_grad():
                run(before)
        if prefixes != ends:
            run(PackedPass(prefixes, ends, cuts, flat.device, before, common=common))
        found = torch.cat(states)
        empty = found.new_zeros(rows * total, found.shape[1])
        whole = empty.index_copy(0, torch.cat(places), found)
        if whole.grad_fn is not None and any(own.is_compiled for own in passes):
            metadata: dict[str, Any] = whole.grad_fn.metadata  # type: ignore[assignment]  # annotated as a method
            metadata["passes"] = passes  # needed by the backward pass of compiled layers
        return whole.view(rows, total, -1)


def blocks(lengths: Sequence[int]) -> tuple[list[int], list[int]]:
    """Rows sorted by length, and the indices at which they are cut into blocks of little padding.

    A cut is made at a row that is shorter than :data:`LEAST_SHARE` of its block's longest, if the padding saved for all
    later rows is at least :data:`CALL_COST`.
    """
    order = sorted(range(len(lengths)), key=lambda row: -lengths[row])
    cuts, longest = [], lengths[order[0]]
    for place, row in enumerate(order):
        if lengths[row] < LEAST_SHARE * longest and (longest - lengths[row]) * (len(order) - place) >= CALL_COST:
            cuts.append(place)
            longest = lengths[row]
    return order, cuts


def _neighbours(order: Sequence[int], cuts: Sequence[int], beginnings: Beginnings) -> tuple[list[int], list[int]]:
    """The rows, in each block those that begin alike side by side, and how much each shares with the one before it."""
    rows, common = [], []
    for first, last in pairwise([0, *cuts, len(order)]):
        own = beginnings.of(order[first:last])
        rows += [order[first + place] for place in own.order]
        common += own.common
    return rows, common


def transform(llm: Any, embeddings: Tensor, packed: PackedPass | SlotPass) -> Tensor:
    """(N, E) -> final, normalised states (N, E).

    The library builds no mask if it is given one of four axes, and the packed attention ignores it.
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
    """Replaces the LLM's attention and compares its output for two rows; if it differs, restores the original.

    Within :func:`isthmus.frozen.shapes_only` there is nothing to compare: an LLM that runs them is taken to be right.
    """
    words = llm.get_input_embeddings()
    device, count = words.weight.device, len(words.weight)
    own = llm.config._attn_implementation
    if words.weight.is_meta or own != "sdpa" or not getattr(llm, "_supports_attention_backend", False):
        return False
    lengths, longest = list(PROBE_LENGTHS), max(PROBE_LENGTHS)
    tried = torch.arange(longest * len(PROBE_LENGTHS), device=device).view(len(PROBE_LENGTHS), longest)
    rows = words((tried + count // 2).clamp(max=count - 1))  # the first ones may be padding, which is zero
    mask = torch.arange(longest, device=device) < torch.tensor(lengths, device=device)[:, None]
    register()
    expected = None if is_shapes_only() else _states(llm, rows, mask)
    try:
        llm.set_attn_implementation(IMPLEMENTATION)
        found = Packer().run(llm, rows, lengths, [0, 1])
    except (TypeError, ValueError, KeyError, IndexError, AttributeError, RuntimeError) as error:
        log.debug("packed rows: %s", error)
        is_right = False
    else:
        is_right = expected is None or _is_close(found[mask], expected)
    if not is_right:
        llm.set_attn_implementation(own)
    return is_right


def _states(llm: Any, rows: Tensor, mask: Tensor) -> Tensor:
    """Final states of the valid positions, by the LLM's own attention."""
    states: Tensor = llm.base_model(inputs_embeds=rows, attention_mask=mask, use_cache=False).last_hidden_state
    return states[mask]


def _is_close(found: Tensor, expected: Tensor) -> bool:
    apart = (found.float() - expected.float()).norm(dim=-1) / expected.float().norm(dim=-1)
    return bool((apart < (1e-3 if expected.dtype == torch.float32 else 0.1)).all())
