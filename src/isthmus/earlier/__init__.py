"""What earlier versions called modules and options, so that what they wrote can be read."""
