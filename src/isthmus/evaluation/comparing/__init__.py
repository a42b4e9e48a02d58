"""Finished runs side by side: their stored figures, paired tests between two, and a leaderboard of many."""
