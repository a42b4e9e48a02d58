"""Text -> point cloud."""
