"""Checkpoints on the Hugging Face hub, named as ``hf://org/name[@revision][/path]``: fetched where one is asked for."""
