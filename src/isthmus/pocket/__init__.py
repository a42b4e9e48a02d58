"""The embedded world: its data, its judges and the training of its experts.

No other package imports it; configurations name its classes.
"""
