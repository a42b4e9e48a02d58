"""What frozen experts said, kept on disk: a store, and its keys."""
