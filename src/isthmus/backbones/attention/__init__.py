"""Passes through an LLM without padding: which rows run together, and how attention tells packed rows apart."""
