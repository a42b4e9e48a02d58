"""Captions of media against references."""
