"""The embedded language models."""
