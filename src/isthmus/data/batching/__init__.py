"""Conversations -> batches, whose layout is computed on the CPU."""
