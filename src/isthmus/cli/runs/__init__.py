"""Commands that look at finished runs: their stages, data and figures, and how two of them differ."""
