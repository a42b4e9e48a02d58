"""A run's checkpoints: one file, or a folder of shards; written aside, verified, and read under any engine."""
