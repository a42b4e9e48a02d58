"""Text -> image."""
