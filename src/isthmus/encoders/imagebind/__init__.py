"""Images, videos, audio, depth, thermal pictures and IMU recordings -> tokens (Girdhar et al., arXiv 2305.05665)."""

from isthmus.encoders.imagebind.encoder import ImageBind

__all__ = ["ImageBind"]
