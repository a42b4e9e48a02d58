"""Judges that read what a medium or an answer shows. They learn from the train split alone, and know no expert."""
