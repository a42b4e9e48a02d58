"""F (B, N, D) -> P (B, M, E). One file a bridge; the contract stands in base.py."""

from isthmus.input_projectors.linear import Linear
from isthmus.input_projectors.mlp import MLP

__all__ = ["MLP", "Linear"]
