"""Signs that a stage learns something else than it should, found while it runs."""
