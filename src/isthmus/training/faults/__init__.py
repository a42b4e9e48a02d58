"""What happens to a run on a cluster: losses that aren't numbers, signals, slow processes; told, survived or ended."""
