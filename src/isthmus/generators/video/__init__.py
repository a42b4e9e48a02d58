"""Text -> video."""
