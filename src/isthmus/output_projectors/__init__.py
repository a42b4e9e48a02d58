"""S (B, S, E) -> H (B, C, K). One file for each bridge; the interface is in base.py."""

from isthmus.output_projectors.mlp import MLP
from isthmus.output_projectors.tiny_transformer import TinyTransformer

__all__ = ["MLP", "TinyTransformer"]
