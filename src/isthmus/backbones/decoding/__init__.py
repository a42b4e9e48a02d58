"""Decodes answers token by token: batched decoding, sampling, limits, and the key-value cache kept between turns."""
