"""The embedded experts, trained further on a user's own media."""
