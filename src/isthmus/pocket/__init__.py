"""The embedded world: its data, its judges and the training of its experts.

Nothing imports this package, configurations aside.
"""
