"""How several processes hold one model: what is sharded, and what each has whole."""

from isthmus.training.engines.sharded import Sharded

__all__ = ["Sharded"]
