"""The embedded audio experts."""
