"""Answers conversations by text and media: the pipeline, a conversation's session, and the commands that use them."""
