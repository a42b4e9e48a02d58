"""Nothing frozen is computed twice: features and conditions on disk, by weights, settings and content."""
