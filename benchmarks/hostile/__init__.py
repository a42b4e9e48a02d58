"""Requests that no client would send, against the real server."""
