"""Media that are plain arrays: values on a plane, and channels over time."""
