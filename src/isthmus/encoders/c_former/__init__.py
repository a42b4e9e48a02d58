"""Speech -> one token for each spoken unit (X-LLM, arXiv 2305.04160)."""

from isthmus.encoders.c_former.encoder import CFormer

__all__ = ["CFormer"]
