"""What frozen experts give, kept on disk from run to run: features, conditions, and S of an LLM that doesn't learn."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import blake2b
from pathlib import Path
from time import perf_counter
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from isthmus.backbones.base import LanguageModel
from isthmus.cache.files import FileDigests
from isthmus.cache.identity import identity
from isthmus.cache.media import MediumCache
from isthmus.cache.states import StateCache, state_namespace
from isthmus.cache.store import Tensors, TensorStore
from isthmus.earlier.options import takes_present_names
from isthmus.encoders.base import Encoder
from isthmus.frozen import FrozenExpert
from isthmus.generators.base import Generator
from isthmus.layout import on_device
from isthmus.paths import user_path
from isthmus.types import Condition, Features, MediaBatch, Modality

log = logging.getLogger(__name__)

Storage = Literal["exact", "bfloat16", "float16"]


@takes_present_names
@dataclass(frozen=True)
class CacheSettings:
    """Where and how frozen results are kept.

    Attributes:
        folder: on a disk of this machine; each machine of a run has its own.
        max_bytes: the limit of all files together. When it is reached, the least recently used values that this run
            hasn't used are dropped; if there are none, nothing more is added.
        dtype: ``exact`` as computed; or a half-precision type, from which values are returned as float32.
        trial: the number of items of a kind after which reading is compared with computing; if reading takes longer,
            the cache is switched off for that kind until the run ends. 0 keeps it on.
    """

    folder: Path = Path("runs/cache")
    max_bytes: int = 50_000_000_000
    dtype: Storage = "exact"
    trial: int = 64

    def __post_init__(self) -> None:
        object.__setattr__(self, "folder", user_path(self.folder))
        if self.dtype not in get_args(Storage):
            raise ValueError(f"cache.dtype: found {self.dtype!r}; expected {' or '.join(get_args(Storage))}")
        if self.trial < 0:
            raise ValueError(f"cache.trial: found {self.trial}; expected a number of items, or 0")


@dataclass
class Trial:
    """Seconds that the first items of a kind took to compute and to load."""

    items: int = 0
    computed: float = 0.0
    loaded: float = 0.0


class FrozenCache:
    """Features by medium, conditions by caption and S by conversation, of one model's experts.

    Attributes:
        precision: the Trainer's precision, a part of every key, since values depend on it.
        hits: how many features, conditions or conversations' S this process had from the cache.
        misses: how many it computed.
    """

    def __init__(self, settings: CacheSettings) -> None:
        self.settings = settings
        self.store = TensorStore(settings.folder, settings.max_bytes)
        self.files = FileDigests(settings.folder)
        self.precision = "32-true"
        self.hits = self.misses = 0
        self._identities: dict[int, str] = {}
        self._trials: dict[str, Trial] = {}
        self._off: set[str] = set()

    def medium(self, encoder: Encoder, modality: Modality, positions: Callable[[int], int]) -> MediumCache | None:
        """The lookup that a data worker uses for media; None if the cache was slower than the encoder."""
        space = self.namespace(encoder, modality)
        if space in self._off:
            return None
        return MediumCache(self.store, self.files, space, partial(encoder.token_count, modality), positions)

    def states(self, language_model: LanguageModel) -> StateCache | None:
        """The lookup that a data worker uses for S, where the LLM doesn't learn; None if it was slower than the LLM."""
        space = f"{state_namespace(language_model)}/signals/{self.precision}/{self.settings.dtype}"
        return None if space in self._off else StateCache(self.store, space)

    def keep_states(
        self,
        name: str,
        keys: Sequence[str],
        rows: Mapping[Modality, Sequence[int]],
        signals: Mapping[Modality, Tensor],
        seconds: float,
    ) -> None:
        """Keeps S of a batch's conversations.

        Args:
            name: of the LLM's class, for messages.
            keys: one a conversation; an empty one isn't kept.
            rows: by modality, the conversation of each run.
            signals: by modality S (r, S, E).
            seconds: that the batch's pass took.
        """
        held = {modality: own.detach().cpu() for modality, own in signals.items()}
        values: dict[str, Tensors] = {key: {} for key in keys if key}
        for modality, own in held.items():
            for row, key in enumerate(keys):
                if key and (runs := [run for run, of in enumerate(rows[modality]) if of == row]):
                    values[key][str(modality)] = own[runs]
        values = {key: own for key, own in values.items() if own}
        if values:
            self._keep(next(iter(values)).rpartition("/")[0], name, values, seconds, len(values))
            self.misses += len(values)

    def namespace(self, part: FrozenExpert, modality: Modality) -> str:
        """The prefix of every key of an expert's values."""
        if id(part) not in self._identities:
            without = part.sampling_settings if isinstance(part, Generator) else ()
            self._identities[id(part)] = identity(part, without)
        return f"{self._identities[id(part)]}/{modality}/{self.precision}/{self.settings.dtype}"

    def features(self, encoder: Encoder, modality: Modality, batch: MediaBatch, device: torch.device) -> Features:
        """F of a batch. Only media that weren't found are encoded; if all were found, the encoder isn't loaded."""
        assert batch.cached is not None
        computed: Features | None = None
        missing = [at for at, known in enumerate(batch.cached) if known.tokens is None]
        if missing:
            encoder.load(device)
            began = perf_counter()
            computed = encoder(modality, batch.inputs)
            rows = list(zip(computed.tokens.detach().cpu(), computed.mask.cpu(), strict=True))
            seconds = perf_counter() - began + sum(batch.cached[at].seconds for at in missing)
            values: dict[str, Tensors] = {}
            for at, (tokens, mask) in zip(missing, rows, strict=True):
                known = batch.cached[at]
                values[known.key] = {"tokens": tokens, "mask": mask, "count": torch.tensor(known.count)}
            self._keep(self.namespace(encoder, modality), type(encoder).__name__, values, seconds, len(missing))
        self.misses += len(missing)
        self.hits += len(batch.cached) - len(missing)
        if computed is not None and len(missing) == len(batch.cached):
            return computed
        place = {at: row for row, at in enumerate(missing)}
        tokens_of, mask_of = [], []
        for at, known in enumerate(batch.cached):
            if known.tokens is None:
                assert computed is not None
                tokens_of.append(computed.tokens[place[at]])
                mask_of.append(computed.mask[place[at]])
            else:
                assert known.mask is not None
                tokens_of.append(on_device(_restored(known.tokens, self.settings.dtype), device))
                mask_of.append(on_device(known.mask, device))
        # An encoder of recordings gives as many tokens as the longest of a batch has, so that rows kept from different
        # batches differ in length.
        return Features(pad_sequence(tokens_of, batch_first=True), pad_sequence(mask_of, batch_first=True))

    def condition(self, generator: Generator, captions: Sequence[str]) -> Condition:
        """The generator's own condition of each caption, on the CPU; its text towers load only for new captions."""
        space = self.namespace(generator, generator.modality)
        if space in self._off:
            return generator.condition(captions)
        keys = {caption: f"{space}/{blake2b(caption.encode(), digest_size=16).hexdigest()}" for caption in captions}
        rows = {caption: held for caption, key in keys.items() if (held := self.store.get(key)) is not None}
        self.hits += len(rows)
        missing = [caption for caption in keys if caption not in rows]
        if missing:
            began = perf_counter()
            computed = generator.condition(missing)
            fresh = {caption: _row(computed, at) for at, caption in enumerate(missing)}
            seconds = perf_counter() - began
            self._keep(space, type(generator).__name__, {keys[c]: row for c, row in fresh.items()}, seconds, len(fresh))
            self.misses += len(missing)
            rows |= fresh
        stacked = {
            name: torch.stack([_restored(rows[caption][name], self.settings.dtype) for caption in captions])
            for name in rows[captions[0]]
        }
        return Condition(stacked["tokens"], stacked.get("mask"), stacked.get("pooled"))

    def _keep(self, space: str, name: str, values: Mapping[str, Tensors], seconds: float, items: int) -> None:
        if space in self._off:
            return
        stored = {
            key: {each: _stored(tensor, self.settings.dtype) for each, tensor in tensors.items()}
            for key, tensors in values.items()
        }
        if not self.store.put(stored) or not self.settings.trial:
            return
        trial = self._trials.setdefault(space, Trial())
        if trial.items >= self.settings.trial:
            return
        began = perf_counter()
        for key in stored:
            self.store.get(key)
        trial.loaded += (perf_counter() - began) * items / len(stored)  # repeats within a batch were computed too
        trial.computed += seconds
        trial.items += items
        if trial.items >= self.settings.trial:
            is_slower = trial.loaded >= trial.computed
            if is_slower:
                self._off.add(space)
            log.info(
                "cache: %s, %s: %.2f ms an item to compute, %.2f ms to read back: %s",
                name,
                space.split("/")[1],
                1e3 * trial.computed / trial.items,
                1e3 * trial.loaded / trial.items,
                "switched off" if is_slower else "kept",
            )


def _row(condition: Condition, at: int) -> Tensors:
    parts = {"tokens": condition.tokens, "mask": condition.mask, "pooled": condition.pooled}
    return {name: tensor[at].detach().cpu() for name, tensor in parts.items() if tensor is not None}


def _stored(tensor: Tensor, storage: Storage) -> Tensor:
    if storage == "exact" or not tensor.is_floating_point():
        return tensor
    return tensor.to(torch.bfloat16 if storage == "bfloat16" else torch.float16)


def _restored(tensor: Tensor, storage: Storage) -> Tensor:
    return tensor.float() if storage != "exact" and tensor.is_floating_point() else tensor
