"""What a model answers while it learns: the same prompts at intervals, on disk and in the run's loggers."""
