"""Speech -> frames, by encoders of transformers."""
