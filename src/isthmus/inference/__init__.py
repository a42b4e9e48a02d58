"""Chat in, text and media out: the pipeline, a conversation's session, and what the commands do with them."""
