"""Reproducible training of the embedded experts from scratch, with one file for each expert."""
