"""Rows of new tokens under the names of their modalities, as they are saved: a model may have more than were saved.

In a model a component is one or two tensors of all modalities' rows. In a file each modality has its own:
``media_tags`` holds (2, E) under its name; ``signal_rows`` its (S, E), and under ``NAME.start`` the output row (1, E)
of its first signal token. The tokens of NExT-GPT's first release stay as they are: no row of them is one modality's
alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from isthmus.backbones.owned_state import State, whole_of
from isthmus.modalities import MEDIA, Modality
from isthmus.vocabulary import Vocabulary

TENSORS = {"media_tags": ("media_tags",), "signal_rows": ("signal_rows", "run_starts")}
"""By component, the tensors that hold rows of every modality."""


def named(state: State, vocabulary: Vocabulary) -> State:
    """A model's state, by component, as it is saved: every modality's rows under its name."""
    if vocabulary.is_nextgpt_v1:
        return state
    parted: dict[str, dict[str, Tensor]] = {}
    for component, tensors in TENSORS.items():
        for tensor in tensors if component in state else ():
            own = _parted(state[component][tensor], tensor, vocabulary.media, vocabulary)
            parted[component] = parted.get(component, {}) | own
    return {**state, **parted}


def joined(state: State, own: State, vocabulary: Vocabulary, strict: bool) -> State:
    """A saved state in the form of a model's own.

    Args:
        state: by component. Earlier versions saved the rows of all :data:`~isthmus.modalities.MEDIA` in one tensor.
        own: of the model that it is for.
        vocabulary: of that model.
        strict: whether every modality's rows must be there; otherwise absent ones stay as the model has them.

    Raises:
        ValueError: rows are missing or of an unknown modality, or their number or width is another.
    """
    if vocabulary.is_nextgpt_v1:
        return state
    found = dict(state)
    for component, tensors in TENSORS.items():
        if component in state and component in own:
            saved = dict(state[component])
            made = {tensor: _joined(saved, tensor, own[component][tensor], vocabulary, strict) for tensor in tensors}
            if saved:
                raise ValueError(
                    f"saved state '{component}': found {', '.join(sorted(saved)[:4])}; expected rows of "
                    f"{', '.join(vocabulary.media)}. Fix: configure the modalities that it was saved with."
                )
            found[component] = made
    return found


def _joined(saved: dict[str, Tensor], tensor: str, own: Tensor, vocabulary: Vocabulary, strict: bool) -> Tensor:
    """The rows of a tensor, taken out of what was saved of its component."""
    if tensor in saved:
        whole = saved.pop(tensor)
        common = sum(_count(tensor, modality, vocabulary) for modality in MEDIA)
        if len(vocabulary.media) == len(MEDIA) or len(whole) != common or whole.shape[1:] != own.shape[1:]:
            return whole  # as the model has it, or of no size that it could have: its shape is compared later
        saved.update(_parted(whole, tensor, MEDIA, vocabulary))
    keys = {modality: _key(tensor, modality) for modality in vocabulary.media}
    if strict and (missing := [key for key in keys.values() if key not in saved]):
        raise ValueError(
            f"saved state: found no rows {', '.join(missing)}; expected those of {', '.join(vocabulary.media)}. Was it "
            "saved by a model of other modalities? Fix: configure the same ones, or begin a stage from it (init_from)."
        )
    rows = []
    for modality, present in _parted(whole_of(own), tensor, vocabulary.media, vocabulary, by_key=False).items():
        given = saved.pop(keys[Modality(modality)], present)
        if given.shape != present.shape:
            raise ValueError(
                f"saved state '{tensor}.{modality}': found shape {tuple(given.shape)}; expected "
                f"{tuple(present.shape)}. Was it saved with other signal counts, or beside an LLM of another width?"
            )
        rows.append(given.to(present))
    return torch.cat(rows)


def _parted(
    rows: Tensor, tensor: str, media: Sequence[Modality], vocabulary: Vocabulary, by_key: bool = True
) -> dict[str, Tensor]:
    counts = [_count(tensor, modality, vocabulary) for modality in media]
    names = [_key(tensor, modality) if by_key else str(modality) for modality in media]
    return dict(zip(names, rows.split(counts), strict=True))


def _count(tensor: str, modality: Modality, vocabulary: Vocabulary) -> int:
    return {"media_tags": 2, "run_starts": 1}.get(tensor, vocabulary.signal_counts[modality])


def _key(tensor: str, modality: Modality) -> str:
    return f"{modality}.start" if tensor == "run_starts" else str(modality)
