"""Images and videos -> tokens, by vision towers of transformers and timm and by encoders that wrap them."""
