"""Images, videos and audio -> tokens (Girdhar et al., arXiv 2305.05665)."""

from isthmus.encoders.imagebind.encoder import ImageBind

__all__ = ["ImageBind"]
