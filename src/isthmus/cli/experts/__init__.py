"""``isthmus experts``: what a config needs of others' checkpoints, what of it is there, and fetching it."""
