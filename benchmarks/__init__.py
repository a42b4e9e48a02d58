"""Benchmarks: ratios against baselines, measured in one run. ``python -m benchmarks`` lists them."""
