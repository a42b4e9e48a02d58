"""The C-Former's projector (X-LLM, arXiv 2305.04160): a BERT between the tokens of speech and the LLM."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from isthmus.frozen import is_shapes_only
from isthmus.input_projectors.base import InputProjector
from isthmus.input_projectors.expansion import require_positive
from isthmus.part_card import PartCard
from isthmus.paths import checkpoint_path
from isthmus.published import read_published
from isthmus.types import Features

SIZES = {
    "width": "hidden_size",
    "layers": "num_hidden_layers",
    "heads": "num_attention_heads",
    "feed_forward": "intermediate_size",
    "max_positions": "max_position_embeddings",
}
"""The projector's arguments, and their names in BERT's config.json."""


class CFormerProjector(InputProjector):
    """Linear (D -> width), ReLU, BERT over the valid tokens, linear (width -> E), ReLU: one position for each token.

    The default sizes are BERT-base's. Tokens keep their order and their mask; masked tokens have no influence.

    Args:
        in_width: D, 512 in X-LLM.
        out_width: E.
        width: width of the BERT.
        layers: number of its layers.
        heads: number of its attention heads, a divisor of ``width``.
        feed_forward: width inside each layer's feed-forward.
        max_positions: the most tokens of a medium.
        dropout: of states and attention weights, in training.
        checkpoint: a folder with a BERT (safetensors) to start from, such as ``bert-base-uncased``; random if None. Its
            word embeddings aren't read.

    Raises:
        ValueError: a size is below one, ``heads`` doesn't divide ``width``, or the checkpoint doesn't fit.
    """

    card = PartCard(
        takes="F (B, N, D) of CFormer", gives="P (B, N, E)", widths="768 inside", code="Apache-2.0 (transformers)"
    )

    def __init__(
        self,
        in_width: int,
        out_width: int,
        width: int = 768,
        layers: int = 12,
        heads: int = 12,
        feed_forward: int = 3072,
        max_positions: int = 512,
        dropout: float = 0.1,
        checkpoint: str | Path | None = None,
    ) -> None:
        super().__init__()
        require_positive(
            in_width=in_width,
            out_width=out_width,
            width=width,
            layers=layers,
            heads=heads,
            feed_forward=feed_forward,
            max_positions=max_positions,
        )
        if width % heads:
            raise ValueError(f"input projector: found width {width} and {heads} heads; expected heads that divide it")
        from transformers import BertConfig, BertModel

        config = BertConfig(
            vocab_size=1,  # word embeddings aren't used
            hidden_size=width,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            intermediate_size=feed_forward,
            max_position_embeddings=max_positions,
            hidden_dropout_prob=dropout,
            attention_probs_dropout_prob=dropout,
        )
        self.max_positions = max_positions
        self.project_in = nn.Linear(in_width, width)
        bert: Any = BertModel(config, add_pooling_layer=False)
        # An unused table has no gradient, and DDP would wait for it.
        bert.embeddings.word_embeddings = None
        self.bert = bert
        self.project_out = nn.Linear(width, out_width)
        if checkpoint is not None and not is_shapes_only():
            _load_bert(self.bert, checkpoint_path(checkpoint))

    def positions(self, tokens: int) -> int:
        """M = N.

        Raises:
            ValueError: there are more than ``max_positions``.
        """
        if tokens > self.max_positions:
            raise ValueError(
                f"C-Former projector: found a medium of up to {tokens} tokens; expected at most max_positions "
                f"{self.max_positions}: raise it, or lower the encoder's max_tokens or seconds"
            )
        return tokens

    def forward(self, features: Features) -> tuple[Tensor, Tensor]:
        """F (B, N, D) -> P (B, M, E) and its mask (B, M). Every medium has a valid token."""
        tokens = features.tokens.masked_fill(~features.mask[..., None], 0)  # masked tokens may be NaN
        states = self.project_in(tokens).relu()
        states = self.bert(inputs_embeds=states, attention_mask=features.mask).last_hidden_state
        return self.project_out(states).relu(), features.mask


def _load_bert(bert: Any, folder: Path) -> None:
    """Copies a folder's BERT, without its word embeddings and pooler, into one of the same sizes."""
    from safetensors import SafetensorError
    from transformers import BertConfig, BertModel

    if not (folder / "config.json").is_file():
        found = "a folder without config.json" if folder.is_dir() else "no such folder"
        raise ValueError(
            f"C-Former projector checkpoint {folder}: found {found}; expected a BERT. Download one "
            "(`hf download google-bert/bert-base-uncased --local-dir FOLDER`) and give that folder"
        )
    try:
        stored = read_published(BertConfig, folder)
        differing = [
            f"{name} {getattr(stored, name)}, and its {argument} {getattr(bert.config, name)}"
            for argument, name in SIZES.items()
            if getattr(stored, name) != getattr(bert.config, name)
        ]
        if differing:
            raise ValueError(f"found sizes that aren't the projector's: {'; '.join(differing)}: set the folder's")
        loaded: Any = read_published(
            BertModel,
            folder,
            use_safetensors=True,
            add_pooling_layer=False,
            dtype=torch.float32,
            output_loading_info=True,
        )
        pretrained, report = loaded
        if missing := sorted(report["missing_keys"]):  # transformers would leave them at random
            raise ValueError(f"found no weights for {len(missing)} tensors {missing[:3]}: download the folder again")
    except (OSError, RuntimeError, ValueError, SafetensorError) as error:
        raise ValueError(f"C-Former projector checkpoint {folder}: it can't be read as its BERT: {error}") from error
    pretrained.embeddings.word_embeddings = None
    bert.load_state_dict(pretrained.state_dict())
