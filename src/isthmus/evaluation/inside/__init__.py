"""Looks inside a model: where an answer attends, what bridges make of a set of media, and H layer by layer."""
