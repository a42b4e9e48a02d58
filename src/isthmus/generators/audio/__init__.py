"""Text -> audio."""
