"""What the LLM computes at every position of one conversation: states after each layer, and attention."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from isthmus.backbones.causal import CausalBackbone
from isthmus.backbones.splicing import splice_media
from isthmus.data.conversations.schema import Conversation, parse_conversation
from isthmus.layout import Layout
from isthmus.model import AnyToAny
from isthmus.precision import own_precision
from isthmus.types import Batch


@dataclass(frozen=True)
class Trace:
    """The LLM's pass over one conversation of T positions, with L layers.

    Attributes:
        batch: the conversation, one row.
        layout: where everything in it stands.
        embeddings: (T, E) what goes in: words, P of media, rows of signal tokens.
        states: (L + 1, T, E) before the first layer and after each. The last are the final, normalised ones.
        attention: (L, heads, T, T): how much the position of the third axis takes from that of the fourth; sums to 1.
    """

    batch: Batch
    layout: Layout
    embeddings: Tensor
    states: Tensor
    attention: Tensor


def conversation_of(messages: Sequence[Mapping[str, Any]]) -> Conversation:
    """Turns in the chat-content convention as a conversation. Each medium of the assistant has a caption."""
    return parse_conversation({"messages": list(messages)}, "messages")


def traced_backbone(model: AnyToAny) -> CausalBackbone:
    """The model's LLM, if its layers can be looked at.

    Raises:
        ValueError: it isn't a decoder-only LLM that media enter among the words.
    """
    backbone = model.backbone.language_model
    if not isinstance(backbone, CausalBackbone) or backbone.fused:
        found = "gated fusion" if isinstance(backbone, CausalBackbone) else type(backbone).__name__
        raise ValueError(
            f"backbone: found {found}; expected a CausalBackbone whose media stand among the words. Fix: look inside "
            "a model without `fusion`."
        )
    return backbone


@torch.no_grad()
def trace(model: AnyToAny, conversation: Conversation) -> Trace:
    """Runs a conversation with its answer through the model, and keeps what every layer computed.

    Args:
        model: with its weights, as :meth:`isthmus.AnyToAny.from_checkpoint` gives it.
        conversation: it ends with the assistant's turn, whose words are given, not drawn.

    Raises:
        ValueError: the backbone can't be looked at, or the conversation has no answer.
    """
    backbone = traced_backbone(model)
    if not conversation.messages or conversation.messages[-1].role != "assistant":
        raise ValueError("conversation: found no answer at its end; expected the assistant's turn. Fix: add it.")
    batch = model.collator()([conversation]).to(model.device)
    side = model.input_side
    projected = {} if side is None else side(batch.media)
    batch = backbone.laid_out(batch if side is None else side.packed(batch, projected))
    layout = batch.layout
    assert layout is not None
    llm: Any = backbone.llm
    used = llm.config._attn_implementation
    llm.set_attn_implementation("eager")  # the only one that returns its weights
    try:
        with own_precision(backbone.dtype, backbone.holds_float32):
            embeddings = splice_media(backbone.embed(batch.ids, layout), layout, projected)
            output = llm.base_model(
                inputs_embeds=embeddings, use_cache=False, output_hidden_states=True, output_attentions=True
            )
    finally:
        llm.set_attn_implementation(used)
    states = torch.stack([*output.hidden_states[:-1], output.last_hidden_state])[:, 0].float()
    attention = torch.stack(list(output.attentions))[:, 0].float()
    return Trace(batch, layout, embeddings[0].float(), states, attention)
