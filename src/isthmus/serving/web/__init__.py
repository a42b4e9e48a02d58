"""The app: a page on which people talk to the served model, by the same engine and within the same limits."""
