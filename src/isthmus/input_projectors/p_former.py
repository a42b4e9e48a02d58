"""P-Former (BLIText, arXiv 2307.07063): a teacher that predicts the prompt for which the LLM writes a given text.

It is trained on text alone, before any media; then an additional loss pulls a projector towards its prompts. It isn't
used at inference.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from isthmus.input_projectors.expansion import require_positive
from isthmus.part_card import PartCard
from isthmus.paths import checkpoint_path
from isthmus.published import read_published


class PFormer(nn.Module):
    """Text -> BERT -> its CLS state -> M prompts of the LLM's width, and a feature for the contrastive loss.

    Args:
        out_width: E.
        checkpoint: a folder with a BERT and its tokenizer, such as ``bert-base-uncased``.
        positions: M, that of the projectors that it teaches.
        pretrained: whether to start from the folder's weights; otherwise only its ``config.json`` is read.
        feature_width: width of the contrastive feature.
        temperature: initial temperature of the contrastive loss, which is learnt.
        mask_share: share of the text's tokens that are masked in training.
        max_tokens: longest text in its own tokens, CLS and SEP included; longer texts are truncated.

    Raises:
        ValueError: a size is below one, a share isn't one, or the folder can't be read.
    """

    card = PartCard(
        takes="text (B, L)",
        gives="prompts (B, M, E), in training alone",
        widths="768 inside (BERT-base)",
        code="Apache-2.0 (transformers)",
        weights="trained here; BERT's Apache-2.0",
        checkpoint="a folder as of google-bert/bert-base-uncased",
        within="input_side.teacher",
    )

    def __init__(
        self,
        out_width: int,
        checkpoint: str | Path,
        positions: int = 32,
        pretrained: bool = True,
        feature_width: int = 256,
        temperature: float = 0.07,
        mask_share: float = 0.25,
        max_tokens: int = 32,
    ) -> None:
        super().__init__()
        require_positive(out_width=out_width, positions=positions, feature_width=feature_width)
        if temperature <= 0 or not 0 <= mask_share < 1 or max_tokens < 3:
            raise ValueError(
                f"P-Former: found temperature {temperature}, mask_share {mask_share} and max_tokens {max_tokens}; "
                "expected a temperature above 0, a share of at least 0 and below 1, and 3 tokens or more"
            )
        self.positions, self.mask_share, self.max_tokens = positions, mask_share, max_tokens
        self.tokenizer, self.bert = _read(checkpoint_path(checkpoint), pretrained)
        width: int = self.bert.config.hidden_size
        self.split = nn.Linear(width, positions * width)
        self.pool = nn.Sequential(nn.Linear(width, width), nn.Tanh())
        self.project_out = nn.Linear(width, out_width)
        self.feature = nn.Linear(width, feature_width)
        self.temperature = nn.Parameter(torch.tensor(temperature))

    def tokenize(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Ids (B, L) and mask (B, L) of the texts, on the CPU."""
        encoded = self.tokenizer(
            list(texts), padding=True, truncation=True, max_length=self.max_tokens, return_tensors="pt"
        )
        return encoded["input_ids"], encoded["attention_mask"].bool()

    def forward(self, ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Ids (B, L) and mask (B, L) -> prompts (B, M, E) and features (B, feature_width) of unit length.

        In training a share of the tokens is masked, so that the prompt must encode the text as a whole.
        """
        if self.training and self.mask_share:
            hidden = torch.rand(ids.shape, device=ids.device) < self.mask_share
            ids = ids.masked_fill(hidden & mask & (ids != self.tokenizer.cls_token_id), self.tokenizer.mask_token_id)
        first = self.bert(input_ids=ids, attention_mask=mask).last_hidden_state[:, 0]
        prompts = self.project_out(self.pool(self.split(first).unflatten(-1, (self.positions, -1))))
        return prompts, F.normalize(self.feature(first), dim=-1)


def contrastive_loss(features: Tensor, temperature: Tensor) -> Tensor:
    """() the cross-entropy of recognising each text among those of its batch, with label smoothing 0.1.

    cross_entropy(features features^T / temperature, identity), in float32. Features (B, W) have unit length.
    """
    features = features.float()
    similarity = features @ features.T / temperature.float()
    return F.cross_entropy(similarity, torch.arange(len(features), device=features.device), label_smoothing=0.1)


def vocabulary_loss(prompts: Tensor, embeddings: Tensor, chunk: int = 1024) -> Tensor:
    """(B,) the mean square distance of each text's prompts to the LLM's nearest word embeddings, in float32.

    Args:
        prompts: (B, M, E).
        embeddings: (V, E), the LLM's; no gradient flows into them.
        chunk: prompts compared with the whole vocabulary at a time, so that (B * M, V) is never materialised.
    """
    flat = prompts.float().flatten(0, 1)
    with torch.no_grad():
        words = embeddings.float()
        # |p - w|^2 without |p|^2, which is the same for every word.
        lengths = words.square().sum(1)
        nearest = torch.cat([(lengths - 2 * part @ words.T).argmin(1) for part in flat.detach().split(chunk)])
        target = words[nearest]
    distances = (flat - target).square().mean(1)
    return distances.view(prompts.shape[:2]).mean(1)


def _read(folder: Path, pretrained: bool) -> tuple[Any, Any]:
    """The tokenizer, and BERT without its pooler."""
    from safetensors import SafetensorError
    from transformers import AutoTokenizer, BertConfig, BertModel

    if not (folder / "config.json").is_file():
        found = "a folder without config.json" if folder.is_dir() else "no such folder"
        raise ValueError(
            f"P-Former checkpoint {folder}: found {found}; expected a BERT and its tokenizer. Download one "
            "(`hf download google-bert/bert-base-uncased --local-dir FOLDER`) and give that folder"
        )
    try:
        tokenizer = read_published(AutoTokenizer, folder)
        config = read_published(BertConfig, folder)
        if not pretrained:
            bert = BertModel(config, add_pooling_layer=False)
        else:
            loaded: Any = read_published(
                BertModel,
                folder,
                use_safetensors=True,
                add_pooling_layer=False,
                output_loading_info=True,
            )
            bert, report = loaded
            if missing := sorted(report["missing_keys"]):  # transformers would leave them at random
                raise ValueError(f"found no weights for {len(missing)} tensors {missing[:3]}")
    except SafetensorError as error:  # whose message doesn't name the file
        files = ", ".join(str(file) for file in sorted(folder.glob("*.safetensors")))
        raise ValueError(
            f"P-Former checkpoint {files}: can't be read as safetensors ({error}). Download the folder again"
        ) from error
    except (OSError, RuntimeError, ValueError) as error:
        raise ValueError(f"P-Former checkpoint {folder}: it can't be read as a BERT: {error}") from error
    absent = [name for name in ("cls_token", "mask_token", "pad_token") if getattr(tokenizer, name) is None]
    if absent or len(tokenizer) > config.vocab_size:
        raise ValueError(
            f"P-Former checkpoint {folder}: found a tokenizer of {len(tokenizer)} tokens without "
            f"{', '.join(absent) or 'nothing'}; expected cls_token, mask_token, pad_token and at most the config's "
            f"vocab_size {config.vocab_size}. Use the tokenizer that belongs to this BERT"
        )
    return tokenizer, bert
