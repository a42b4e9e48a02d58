"""F (B, N, D) -> P (B, M, E). One file for each bridge; the interface is in base.py."""

from isthmus.input_projectors.c_former import CFormerProjector
from isthmus.input_projectors.cross_attention import CrossAttention
from isthmus.input_projectors.linear import Linear
from isthmus.input_projectors.mlp import MLP
from isthmus.input_projectors.p_former import PFormer
from isthmus.input_projectors.q_former import QFormer
from isthmus.input_projectors.token_merging import TokenMerging

__all__ = ["MLP", "CFormerProjector", "CrossAttention", "Linear", "PFormer", "QFormer", "TokenMerging"]
