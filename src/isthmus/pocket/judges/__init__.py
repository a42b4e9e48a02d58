"""Judges that read attributes of media and answers. They are trained on the train split alone, without any expert."""
