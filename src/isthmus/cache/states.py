"""S of conversations whose LLM is frozen, rows of new tokens included: a projector learns of it without a pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b, sha256

import torch
from torch import Tensor

from isthmus.backbones.base import LanguageModel
from isthmus.cache.identity import identity
from isthmus.cache.store import TensorStore
from isthmus.types import Modality


@dataclass
class StateCache:
    """Where data workers look for the states of a conversation's runs.

    Attributes:
        store: holds them.
        namespace: the prefix of keys, from all that S depends on beside the conversation.
    """

    store: TensorStore
    namespace: str

    def find(self, ids: Sequence[int]) -> tuple[str, dict[Modality, Tensor] | None]:
        """The key of a conversation without media, and by modality its runs' S (k, S, E), if they are known."""
        key = f"{self.namespace}/{blake2b(torch.tensor(ids).numpy().tobytes(), digest_size=16).hexdigest()}"
        held = self.store.get(key)
        return key, None if held is None else {Modality(name): states for name, states in held.items()}


def state_namespace(language_model: LanguageModel) -> str:
    """A digest of the LLM with all its settings, such as its type and quantisation, and of what was trained in it.

    It is found out where none of that learns: while it does, S of a conversation is another after each step.
    """
    digest = sha256(identity(language_model).encode())
    for part, tensors in sorted(language_model.owned_state().items()):
        for name, tensor in sorted(tensors.items()):
            digest.update(f"{part} {name} ".encode())
            digest.update(tensor.cpu().float().contiguous().numpy().tobytes())
    return digest.hexdigest()[:32]
