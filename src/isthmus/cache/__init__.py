"""A cache on disk of encoder features and caption conditions, keyed by weights, settings and content."""
