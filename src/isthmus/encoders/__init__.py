"""Media -> F (B, N, D), by frozen experts. One file an expert, the contract in base.py."""
