"""Reads and writes video files; only the requested frames are decoded."""
