"""Pictures to and from files."""
