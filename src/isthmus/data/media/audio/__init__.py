"""Recordings to and from files."""
