"""``isthmus serve``: an engine that batches answers continuously, behind OpenAI's HTTP interface."""
