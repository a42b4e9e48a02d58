"""The P-Former's BERT at pocket size: a configuration and a tokenizer of the world's words. It has no weights.

At full size a P-Former starts from a pretrained BERT (BLIText, arXiv 2307.07063); here it is trained from scratch
(``pretrained: false``), in its stage.
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
from typing import TYPE_CHECKING

from isthmus.paths import user_path
from isthmus.pocket.experts.language.llama import lexicon

if TYPE_CHECKING:
    from transformers import BertTokenizer

log = logging.getLogger(__name__)

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
WIDTH, LAYERS, HEADS, FEED_FORWARD, CONTEXT = 64, 2, 4, 128, 64


def build_tokenizer() -> BertTokenizer:
    """BERT's word pieces: every word of the world, and printable ASCII characters for any other word."""
    from transformers import BertTokenizer

    characters = [chr(code) for code in range(33, 127) if not chr(code).isupper()]
    pieces = [*SPECIAL, *lexicon(), *characters, *(f"##{character}" for character in characters)]
    ids = {piece: number for number, piece in enumerate(dict.fromkeys(pieces))}
    return BertTokenizer(vocab=ids, model_max_length=CONTEXT)


def write(folder: Path) -> None:
    """Writes ``config.json`` and the tokenizer's files."""
    from transformers import BertConfig

    tokenizer = build_tokenizer()
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        intermediate_size=FEED_FORWARD,
        max_position_embeddings=CONTEXT,
        pad_token_id=tokenizer.pad_token_id,
    )
    tokenizer.save_pretrained(folder)
    config.save_pretrained(folder)
    log.info("bert: %d word pieces in %s", len(tokenizer), folder)


def main() -> None:
    """The command ``python -m isthmus.pocket.experts.language.bert``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=user_path, default=Path("checkpoints/pocket/bert"))
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    write(parser.parse_args().out)


if __name__ == "__main__":
    main()
