"""How people put things: templates, what they name, and how they type."""
