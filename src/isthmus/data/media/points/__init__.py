"""Point clouds to and from files."""
