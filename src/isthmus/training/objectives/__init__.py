"""What a stage learns by: supervised losses, preferences, rewards; three objectives of one kind."""
