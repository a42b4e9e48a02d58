"""Retrieval of captions by media, and of media by captions."""
