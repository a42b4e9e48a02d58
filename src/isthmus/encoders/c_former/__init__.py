"""Speech -> one token for each unit that is said (X-LLM, arXiv 2305.04160)."""

from isthmus.encoders.c_former.encoder import CFormer

__all__ = ["CFormer"]
