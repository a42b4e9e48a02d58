"""Conversations -> batches, whose layout is known on the CPU."""
