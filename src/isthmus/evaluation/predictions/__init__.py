"""The answers of a test run, as files: what every metric is computed from."""
