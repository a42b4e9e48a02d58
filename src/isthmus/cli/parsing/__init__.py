"""Parsers of command lines and configs, and what they say of a mistake: one message, without usage or dumps."""
