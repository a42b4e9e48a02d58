"""Recordings -> patch tokens (Chen et al., arXiv 2212.09058)."""

from isthmus.encoders.beats.encoder import Beats

__all__ = ["Beats"]
