"""The embedded experts of text."""
