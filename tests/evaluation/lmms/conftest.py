"""A trained model's folder, as a run would leave it, and a pipeline on it."""

from tiny_bundle import bundle, opened

__all__ = ["bundle", "opened"]
