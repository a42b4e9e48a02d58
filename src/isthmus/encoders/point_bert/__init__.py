"""Point clouds -> tokens (arXiv 2111.14819), with ULIP's weights."""

from isthmus.encoders.point_bert.encoder import PointBert

__all__ = ["PointBert"]
