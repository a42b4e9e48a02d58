"""Conversations of text and media: their schema, their sources, and their plan in the LLM's template."""
