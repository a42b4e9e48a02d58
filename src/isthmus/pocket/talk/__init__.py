"""The talk world: what people ask a published LLM in plain English, and what it answers with words and media."""

from isthmus.pocket.talk.cells import MatrixCells
from isthmus.pocket.talk.natural import NaturalRequests
from isthmus.pocket.talk.sources import AnyToAny, Arithmetic, Captions, Chat, Describe, Draw

__all__ = ["AnyToAny", "Arithmetic", "Captions", "Chat", "Describe", "Draw", "MatrixCells", "NaturalRequests"]
