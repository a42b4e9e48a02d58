"""What a run keeps and shows: its folder, checkpoints, ends and resumptions, and its clocks."""
