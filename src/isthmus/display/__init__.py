"""Media and replies as a page or a notebook shows them: within the page itself, escaped, and without a network."""
