"""The embedded experts of sound."""
