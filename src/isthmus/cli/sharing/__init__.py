"""Commands that hand trained models on, and that take what others have trained."""
