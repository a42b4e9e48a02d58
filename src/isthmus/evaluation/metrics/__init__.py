"""Measurements over stored answers; each is a class that a config names."""
