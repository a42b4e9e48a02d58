"""The embedded experts of point clouds."""
