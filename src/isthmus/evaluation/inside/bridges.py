"""What an output bridge has learnt: H beside the generator's own condition, read off after each layer of the LLM."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity

from isthmus.backbones.adapters.gated_fusion import decoder_layers
from isthmus.data.conversations.schema import Conversation
from isthmus.evaluation.inside.trace import trace, traced_backbone
from isthmus.model import AnyToAny
from isthmus.types import Modality


@dataclass(frozen=True)
class BridgeReading:
    """H of n captions, read off after each of L layers, and what the generator's own conditioner says of them.

    Attributes:
        captions: n.
        by_layer: (L + 1, n, C, K): H, if the LLM ended after so many layers; the last is H itself.
        conditions: (n, C, K), the generator's own.
    """

    captions: list[str]
    by_layer: Tensor
    conditions: Tensor

    def cosines(self) -> Tensor:
        """(L + 1, n): of H and the condition of the same caption, each as one vector."""
        return cosine_similarity(self.by_layer.flatten(2), self.conditions.flatten(1)[None], dim=-1)

    def confusion(self, centred: bool = True) -> Tensor:
        """(n, n) cosines of each caption's H, in rows, with each caption's condition, in columns.

        Args:
            centred: whether the mean over the captions is taken from each side first. What all conditions have in
                common says nothing about a caption.
        """
        made, own = self.by_layer[-1].flatten(1), self.conditions.flatten(1)
        if centred:
            made, own = made - made.mean(0), own - own.mean(0)
        return cosine_similarity(made[:, None], own[None], dim=-1)


@torch.no_grad()
def bridge_reading(model: AnyToAny, modality: Modality, conversations: Sequence[Conversation]) -> BridgeReading:
    """Reads H of each conversation's last medium of one modality.

    After layer l, the states of the signal tokens go through the LLM's final norm, get their tokens' embeddings added,
    and go through the output projector, as those of the last layer do (a logit lens, with a projector for a head).

    Args:
        model: with its weights.
        modality: that the assistant makes, with a caption.
        conversations: n, with their answers.

    Raises:
        ValueError: the model doesn't make the modality, a conversation's answer has no medium of it, or the backbone
            can't be looked at.
    """
    side = model.output_side
    if side is None or modality not in side.serving:
        made = ", ".join(model.outputs) or "none"
        raise ValueError(f"modality: found {modality}; expected one that the model makes: {made}. Fix: choose another.")
    norm = final_norm(traced_backbone(model).llm)
    captions, readings = [], []
    for conversation in conversations:
        traced = trace(model, conversation)
        if modality not in traced.layout.runs:
            raise ValueError(
                f"conversation: found no {modality} in its answer; expected one with a caption. Fix: ask for it."
            )
        at = traced.layout.runs[modality].positions[-1]  # (S,)
        states = torch.cat([norm(traced.states[:-1, at]), traced.states[-1:, at]])
        readings.append(side({modality: states + traced.embeddings[at]})[modality].tokens.float())
        captions.append(traced.batch.signals[modality].captions[-1])
    conditions = side.target(modality, captions).tokens.float()
    return BridgeReading(captions, torch.stack(readings, 1).cpu(), conditions.cpu())


def final_norm(llm: Any) -> nn.Module:
    """The norm behind the last layer, which stands beside the list of layers; where there is none, nothing is done."""
    last = decoder_layers(llm)[-1]
    (holder,) = (
        module
        for module in llm.base_model.modules()
        if any(isinstance(child, nn.ModuleList) and last in child.children() for child in module.children())
    )
    norms = [module for module in holder.children() if "norm" in type(module).__name__.lower()]
    return norms[-1] if norms else nn.Identity()
