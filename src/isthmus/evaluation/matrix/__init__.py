"""The any-to-any matrix: prompts of each cell, judges that score the answers, and upper bounds of the scores."""
