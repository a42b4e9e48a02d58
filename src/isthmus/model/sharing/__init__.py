"""A trained model as others get it: one folder or one file, with a card, and without this machine's paths."""
