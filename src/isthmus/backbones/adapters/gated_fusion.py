"""Media by gated cross-attention in a frozen LLM, instead of positions in the text (Flamingo, arXiv 2204.14198)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from isthmus.layout import Layout, on_device
from isthmus.modalities import is_medium, known_media
from isthmus.part_card import PartCard
from isthmus.types import Modality


@dataclass(frozen=True)
class FusionSettings:
    """Which media are attended to instead of taking positions, and by how many layers. The defaults are Flamingo's.

    Attributes:
        modalities: media that take no positions: their tags enclose nothing. Give them a projector of fixed length,
            such as :class:`isthmus.input_projectors.CrossAttention`.
        every: interval, in layers of the LLM, at which a new layer is inserted (Flamingo: 1, 4 and 7, by size).
        heads: number of attention heads.
        head_width: width of each.
        feed_forward: width inside the feed-forward, as a multiple of the LLM's.
        only_last: whether text attends only to the last medium before it, as in Flamingo, or to all before it.
    """

    card = PartCard(
        takes="P (B, M, E), text states (B, T, E)",
        gives="text states (B, T, E)",
        widths="512 inside (8 heads of 64)",
        within="language_model.fusion",
    )

    modalities: list[str]
    every: int = 4
    heads: int = 8
    head_width: int = 64
    feed_forward: int = 4
    only_last: bool = False

    def __post_init__(self) -> None:
        unknown = [name for name in self.modalities if not is_medium(name)]
        if unknown or not self.modalities:
            raise ValueError(
                f"fusion.modalities: found {', '.join(self.modalities) or 'none'}; expected some of "
                f"{', '.join(known_media())}"
            )
        for name in ("every", "heads", "head_width", "feed_forward"):
            if getattr(self, name) < 1:
                raise ValueError(f"fusion.{name}: found {getattr(self, name)}; expected at least 1")


@dataclass
class FusedMedia:
    """The fused media of a batch by row, in order: states (B, S, M, E), mask (B, S, M), first positions (B, S).

    Rows with fewer media are padded; padding is masked and starts after every text. ``firsts``: the first start of
    each row.
    """

    states: Tensor
    mask: Tensor
    starts: Tensor
    firsts: list[int]


class GatedFusion(nn.Module):
    """The new layers of an LLM, called before its own by hooks.

    A layer changes only positions that attend to a medium: text before any medium, and text alone, are computed as by
    the frozen LLM. (Flamingo's feed-forward changes all positions.) The mask is the same in decoding, since it compares
    positions in the text, not slots of a cache.

    Args:
        settings: number and sizes of the layers.
        layers: the LLM's own.
        width: width of the LLM's layers.
        media_width: E, width of the media.

    Raises:
        ValueError: ``every`` is beyond the LLM's layers.
    """

    def __init__(self, settings: FusionSettings, layers: Sequence[nn.Module], width: int, media_width: int) -> None:
        super().__init__()
        if settings.every > len(layers):
            raise ValueError(f"fusion.every: found {settings.every}; expected at most the LLM's {len(layers)} layers")
        self.modalities = frozenset(Modality(name) for name in settings.modalities)
        self.only_last = settings.only_last
        before = layers[settings.every - 1 :: settings.every]
        sizes = (width, media_width, settings.heads, settings.head_width, settings.feed_forward)
        blocks = [GatedCrossAttention(*sizes) for _ in before]
        self.blocks = nn.ModuleList(blocks)
        for block, layer in zip(blocks, before, strict=True):
            layer.register_forward_pre_hook(partial(self._fuse, block), with_kwargs=True)
        self.fused_media: FusedMedia | None = None
        self.positions: Tensor | None = None

    def separate(
        self, layout: Layout, media: Mapping[Modality, tuple[Tensor, Tensor]]
    ) -> tuple[dict[Modality, tuple[Tensor, Tensor]], FusedMedia | None]:
        """Separates media that are fused from those that are spliced into the text.

        Args:
            layout: the positions of media.
            media: by modality P (n, M, E) and its mask.

        Returns:
            ``media``, where fused ones have no positions; and the fused ones by row, None if there are none.
        """
        fused = {modality: own for modality, own in media.items() if modality in self.modalities}
        spliced = {m: (p[:, :0].detach(), mask[:, :0]) if m in fused else (p, mask) for m, (p, mask) in media.items()}
        return spliced, arrange_by_row(layout, fused) if fused else None

    def firsts(self, fused_media: FusedMedia, firsts: Sequence[int]) -> list[int]:
        """The first position of each row that needs a gradient, with fused media and new layers taken into account."""
        if not fused_media.states.requires_grad and not any(parameter.requires_grad for parameter in self.parameters()):
            return list(firsts)
        return [min(own, start) for own, start in zip(firsts, fused_media.firsts, strict=True)]

    def _fuse(
        self, block: GatedCrossAttention, layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        """A layer's arguments, where the states are updated by the media that each position attends to."""
        if self.fused_media is None:
            return None
        assert self.positions is not None
        precedes = self.fused_media.starts[:, None] <= self.positions[:, :, None]  # (B, L, S)
        if self.only_last:
            later = precedes.roll(-1, dims=2)
            later[..., -1] = False
            precedes = precedes & ~later
        attends = (precedes[..., None] & self.fused_media.mask[:, None]).flatten(2)
        media = self.fused_media.states.flatten(1, 2)
        if args:
            return (block(args[0], media, attends), *args[1:]), kwargs
        return args, kwargs | {"hidden_states": block(kwargs["hidden_states"], media, attends)}


class GatedCrossAttention(nn.Module):
    """y = x + tanh(a) attention(x; media), then y + tanh(b) feed-forward(y); both gates start at zero.

    Float32, whatever the LLM's type.
    """

    def __init__(self, width: int, media_width: int, heads: int, head_width: int, feed_forward: int) -> None:
        super().__init__()
        self.heads = heads
        inner = heads * head_width
        self.norm = nn.LayerNorm(width)
        self.query = nn.Linear(width, inner, bias=False)
        self.key_value = nn.Linear(media_width, 2 * inner, bias=False)
        self.out = nn.Linear(inner, width, bias=False)
        self.attention_gate = nn.Parameter(torch.zeros(()))
        self.feed_forward = nn.Sequential(
            nn.LayerNorm(width),
            nn.Linear(width, feed_forward * width, bias=False),
            nn.GELU(),
            nn.Linear(feed_forward * width, width, bias=False),
        )
        self.feed_forward_gate = nn.Parameter(torch.zeros(()))

    def forward(self, states: Tensor, media: Tensor, attends: Tensor) -> Tensor:
        """States (B, L, W), media (B, K, E) and the attention mask (B, L, K) -> states (B, L, W)."""
        attends_any = attends.any(-1, keepdim=True)
        own = states.to(self.norm.weight.dtype)
        query = self._split(self.query(self.norm(own)))
        key, value = (self._split(part) for part in self.key_value(media.to(own.dtype)).chunk(2, dim=-1))
        # Positions without media attend to all, so that no softmax is empty; their result is dropped below.
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=(attends | ~attends_any)[:, None])
        attended = self.out(attended.transpose(1, 2).flatten(2))
        update: Tensor = (self.attention_gate.tanh() * attended).masked_fill(~attends_any, 0)
        fed = self.feed_forward(own + update)
        update = update + (self.feed_forward_gate.tanh() * fed).masked_fill(~attends_any, 0)
        return states + update.to(states.dtype)

    def _split(self, states: Tensor) -> Tensor:
        """(B, L, inner) -> (B, heads, L, head width)."""
        batch, length, inner = states.shape
        return states.view(batch, length, self.heads, inner // self.heads).transpose(1, 2)


def arrange_by_row(layout: Layout, media: Mapping[Modality, tuple[Tensor, Tensor]]) -> FusedMedia:
    """Media of all modalities by row, in the order of their positions."""
    longest = max(mask.shape[1] for _, mask in media.values())
    states = torch.cat([F.pad(p, (0, 0, 0, longest - p.shape[1])) for p, _ in media.values()])
    mask = torch.cat([F.pad(own, (0, longest - own.shape[1])) for _, own in media.values()])
    states = states.masked_fill(~mask[..., None], 0)  # masked positions may be NaN
    found = [pair for m in media for pair in zip(layout.media[m].rows, layout.media[m].starts, strict=True)]
    order = sorted(range(len(found)), key=found.__getitem__)
    by_row: list[list[int]] = [[] for _ in layout.lengths]
    places = []
    for at in order:
        row, start = found[at]
        places.append((row, len(by_row[row])))
        by_row[row].append(start)
    most, end = max(map(len, by_row)), torch.iinfo(torch.int64).max
    device = states.device
    rows, slots = on_device(places, device).unbind(1)
    chosen = on_device(order, device)
    return FusedMedia(
        states.new_zeros(len(by_row), most, *states.shape[1:]).index_put((rows, slots), states[chosen]),
        mask.new_zeros(len(by_row), most, longest).index_put((rows, slots), mask[chosen]),
        on_device([[*own, *[end] * (most - len(own))] for own in by_row], device),
        [min(own, default=end) for own in by_row],
    )


def decoder_layers(llm: Any) -> Sequence[nn.Module]:
    """The layers of a decoder-only LLM of ``transformers``."""
    count = llm.config.get_text_config().num_hidden_layers
    found = [module for module in llm.modules() if isinstance(module, nn.ModuleList) and len(module) == count]
    assert found, f"{type(llm).__name__} has no list of {count} layers"
    return list(found[0])
