"""Passes through an LLM without padding: groups of rows, and attention within each row of a packed batch."""
