"""The any-to-any matrix: what was asked in each cell, what judges read in the answers, and what is held against it."""
