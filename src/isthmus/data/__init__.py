"""The data room: a conversation of text and media -> a batch."""
