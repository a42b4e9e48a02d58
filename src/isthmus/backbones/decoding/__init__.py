"""Answers token by token: batched decoding, sampling, limits, and what is kept from turn to turn."""
