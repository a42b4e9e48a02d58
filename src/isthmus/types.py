"""The words that all rooms share: modalities, media, features, conditions and batches.

Legend of tensor letters, used in every docstring of the project:
B batch, N encoder tokens, D encoder width, M positions a medium takes in the LLM, E LLM width, T sequence positions,
S signal tokens of a medium, C condition tokens, K condition width. Masks are bool, True = valid.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from isthmus.layout import Layout
from isthmus.modalities import MEDIA as MEDIA  # noqa: PLC0414 # rooms import it from here
from isthmus.modalities import Modality as Modality  # noqa: PLC0414 # likewise
from isthmus.modalities import is_medium, known_media

COUNT = "count"
"""The end of an input's name that says how much of the others is real. Such stay on the CPU, which reads them."""

IGNORED = -100
"""The label of a position that carries no text loss (the value that ``torch.nn.functional.cross_entropy`` ignores)."""


@dataclass(frozen=True, eq=False)
class Media:
    """One decoded medium: a plain array with its rate.

    Attributes:
        modality: of :func:`isthmus.modalities.known_media`.
        array: as its kind says (:mod:`isthmus.modalities.kinds`): image (H, W, 3) uint8; video (F, H, W, 3) uint8;
            audio (L,) float32 in [-1, 1]; points (P, 3 or 6) float32, xyz and optional rgb in [0, 1].
        rate: frames a second of a video, samples a second of audio and series, otherwise None.
        source: the file or origin, for error messages.
        details: what else its maker says of it (a generator's seed, the caption it was asked for).
        times: (F,) float64, of a video that isn't an even row of all its frames: the seconds from its beginning at
            which each frame is first shown, rising. None: frame i is shown at ``i / rate``.
        total: how many frames such a video has as a whole, at ``rate``; or how many samples a recording has of which
            only the beginning is here.

    Raises:
        ValueError: the array's shape, type or rate isn't the modality's.
    """

    modality: Modality
    array: np.ndarray[Any, Any]
    rate: float | None = None
    source: str = "memory"
    details: dict[str, Any] = field(default_factory=dict)
    times: np.ndarray[Any, Any] | None = None
    total: int | None = None

    def __post_init__(self) -> None:
        assert self.times is None or self.total is not None, "times are of a video whose total is known"
        if not is_medium(self.modality):
            raise ValueError(f"{self.source}: {self.modality} isn't a medium; media are {', '.join(known_media())}")
        spec = Modality(self.modality).spec
        if not spec.accepts(self.array, self.rate):
            raise ValueError(
                f"{self.source}: found {self.array.shape} {self.array.dtype} at rate {self.rate} for {self.modality}; "
                f"expected a non-empty {spec.array}. Decode the file with isthmus.data.media.files, or convert the "
                "array."
            )

    @property
    def frame_count(self) -> int:
        """How many frames or samples the whole medium has at ``rate``, however many of them are here."""
        return len(self.array) if self.total is None else self.total

    @property
    def pace(self) -> float:
        """Frames a second at which the frames that are here last as long as the whole video."""
        assert self.rate is not None
        return self.rate * len(self.array) / self.frame_count

    def rows(self, frames: Any) -> np.ndarray[Any, Any]:
        """Numbers of frames, 0 to ``frame_count`` - 1 -> the rows of ``array`` that are shown at their times."""
        rows: np.ndarray[Any, Any] = np.asarray(frames, dtype=np.int64)
        if self.times is not None and self.rate is not None:
            rows = np.searchsorted(self.times, rows / self.rate + 1e-6, side="right") - 1
        return rows.clip(min=0)


@dataclass
class Features:
    """What an encoder says of its media: tokens (B, N, D) and their mask (B, N)."""

    tokens: Tensor
    mask: Tensor


@dataclass
class Condition:
    """What a generator is told: tokens (B, C, K), their mask (B, C) and, where it wants one, pooled (B, K')."""

    tokens: Tensor
    mask: Tensor | None = None
    pooled: Tensor | None = None

    def __len__(self) -> int:
        return len(self.tokens)

    def __getitem__(self, rows: slice | Tensor) -> Condition:
        """The same condition of some samples alone."""
        mask = None if self.mask is None else self.mask[rows]
        return Condition(self.tokens[rows], mask, None if self.pooled is None else self.pooled[rows])

    def to(self, device: torch.device | str, dtype: torch.dtype | None = None) -> Condition:
        """The same condition on another device, its tokens and pooled part in another type; no GPU is waited for."""
        fast = torch.device(device).type != "cpu"
        mask = None if self.mask is None else self.mask.to(device, non_blocking=fast)
        pooled = None if self.pooled is None else self.pooled.to(device, dtype, non_blocking=fast)
        return Condition(self.tokens.to(device, dtype, non_blocking=fast), mask, pooled)

    def detach(self) -> Condition:
        """The same condition without gradient."""
        return Condition(self.tokens.detach(), self.mask, None if self.pooled is None else self.pooled.detach())


@dataclass
class Encoded:
    """What a cache knows of one input medium.

    Attributes:
        key: names it in the cache.
        count: N, as ``Encoder.token_count`` has it.
        tokens: (N, D); None where the cache doesn't hold it.
        mask: (N,), likewise.
        seconds: what decoding and preprocessing took, where it doesn't.
    """

    key: str
    count: int = 0
    tokens: Tensor | None = None
    mask: Tensor | None = None
    seconds: float = 0.0


@dataclass
class MediaBatch:
    """The n places of one modality's media in a batch, and the d distinct media that stand there.

    Attributes:
        inputs: what ``Encoder.preprocess`` gave, stacked: each tensor (d, ...); with a cache, of those media alone that
            it doesn't hold.
        rows: (n,) the sequence of each place.
        starts: (n,) its first position there.
        lengths: (n,) how many positions it takes (M).
        cached: d, what a cache knows of each distinct medium; None where there's no cache.
        index: (n,) which of the distinct media stands in each place; None where each place has its own, in order.
    """

    inputs: dict[str, Tensor]
    rows: Tensor
    starts: Tensor
    lengths: Tensor
    cached: list[Encoded] | None = None
    index: Tensor | None = None

    def __getstate__(self) -> dict[str, Any]:
        """What travels from a data worker: of the media that a cache holds, one tensor for each type of number.

        Each tensor that travels takes an open file, of which a process may have no more than a thousand or so.
        """
        flat: dict[tuple[torch.dtype, torch.device], list[Tensor]] = {}

        def packed(own: Tensor | None) -> Any:
            if own is None:
                return None
            kind = own.dtype, own.device
            flat.setdefault(kind, []).append(own.flatten().view(torch.uint8))
            return kind, own.shape

        bare = None
        if self.cached is not None:
            bare = [(replace(own, tokens=None, mask=None), packed(own.tokens), packed(own.mask)) for own in self.cached]
        return {**vars(self), "cached": (bare, {kind: torch.cat(parts) for kind, parts in flat.items()})}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """As :meth:`__getstate__` packed it: what a cache holds are parts of these tensors."""
        bare, flat = state["cached"]
        left: dict[Any, Tensor] = dict(flat)

        def unpacked(own: Any) -> Tensor | None:
            if own is None:
                return None
            kind, shape = own
            size = shape.numel() * kind[0].itemsize
            first, left[kind] = left[kind][:size], left[kind][size:]
            return first.view(kind[0]).view(shape)

        self.__dict__.update(state, cached=None)
        if bare is not None:
            self.cached = [replace(own, tokens=unpacked(tokens), mask=unpacked(mask)) for own, tokens, mask in bare]


@dataclass
class SignalBatch:
    """The r runs of signal tokens of one modality, on the assistant's side and trained upon.

    Attributes:
        rows: (r,) the sequence of each run.
        starts: (r,) the position of its first signal token.
        captions: r captions, the alignment targets.
        contents: what ``Generator.prepare`` gave for the runs that have a file, stacked: each tensor (c, ...); empty
            if none has.
        content_runs: (c,) which of the r runs each content belongs to.
        seeds: (r,) int64, the seed of each run's denoising noise. They stay on the CPU, where noise is drawn.
    """

    rows: Tensor
    starts: Tensor
    captions: list[str]
    contents: dict[str, Tensor]
    content_runs: Tensor
    seeds: Tensor


@dataclass
class Batch:
    """A collated batch of conversations.

    Attributes:
        ids: (B, T) int64, right-padded. Media positions hold ``vocabulary.MEDIA_POSITION``; padding holds 0.
        mask: (B, T) bool.
        labels: (B, T) int64: the id that this very position must be predicted as, ``IGNORED`` where there's no loss.
            Of a signal run only the first token is labelled: decoding appends the rest by itself.
        media: input media by modality.
        signals: trained signal runs by modality.
        details: one dictionary a sample, passed through untouched (the evaluation's expectations, the sample's origin).
        texts: what the assistant says in words in each sample's trained turns; "" where that is nothing.
        mixed: conversations of another kind that are learnt in the same step, in their own way.
        rest: further parts of the same batch, which are learnt from one after another.
        left_out: of each prompt, how many of its conversation's messages it had no room for; empty if none was.
        keys: of each conversation, what the states of its runs are kept under; empty where none are.
        states: by modality S (r, S, E) of the runs, where all are known: the LLM isn't run then.
        layout: where everything stands, found and checked on the CPU, for the ids, labels and places that stand here:
            whoever changes these takes it out. None where nobody has looked yet; the forward does so then.
    """

    ids: Tensor
    mask: Tensor
    labels: Tensor
    media: dict[Modality, MediaBatch] = field(default_factory=dict)
    signals: dict[Modality, SignalBatch] = field(default_factory=dict)
    details: list[dict[str, Any]] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    mixed: Batch | None = None
    rest: list[Batch] = field(default_factory=list)
    left_out: list[int] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    states: dict[Modality, Tensor] | None = None
    layout: Layout | None = None

    @property
    def pieces(self) -> list[Batch]:
        """This piece and the rest."""
        return [self, *self.rest]

    def __len__(self) -> int:
        return int(self.ids.shape[0])

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Batch:
        """The same batch on another device, but for details, which Lightning would take apart, and :data:`COUNT`."""
        return self.apply(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> Batch:
        """The same batch in memory from which a GPU fetches it beside other work, where there is a GPU."""
        return self.apply(torch.Tensor.pin_memory) if torch.cuda.is_available() else self

    def apply(self, move: Callable[[Tensor], Tensor]) -> Batch:
        """The same batch with ``move`` applied to each tensor, those of its parts and its layout included."""

        def moved(own: Any) -> Any:
            if isinstance(own, Tensor):
                return move(own)
            if isinstance(own, dict):
                return {name: tensor if name.endswith(COUNT) else move(tensor) for name, tensor in own.items()}
            return own

        def moved_all(kind: dict[Modality, Any]) -> dict[Modality, Any]:
            return {
                modality: replace(own, **{name: moved(value) for name, value in vars(own).items() if name != "seeds"})
                for modality, own in kind.items()
            }

        return replace(
            self,
            ids=move(self.ids),
            mask=move(self.mask),
            labels=move(self.labels),
            media=moved_all(self.media),
            signals=moved_all(self.signals),
            mixed=None if self.mixed is None else self.mixed.apply(move),
            rest=[part.apply(move) for part in self.rest],
            states=None if self.states is None else {modality: move(own) for modality, own in self.states.items()},
            layout=None if self.layout is None else self.layout.apply(move),
        )

    @property
    def target_count(self) -> int:
        """How many positions carry a text loss. Without a layout it is counted, for which a device would wait."""
        return int((self.labels != IGNORED).sum()) if self.layout is None else self.layout.target_count

    @property
    def position_count(self) -> int:
        """How many valid positions it has. Without a layout they are counted, for which a device would wait."""
        return int(self.mask.sum()) if self.layout is None else sum(self.layout.lengths)
