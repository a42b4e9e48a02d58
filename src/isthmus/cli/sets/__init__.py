"""The commands under ``isthmus data``: they look after sets of conversations."""
