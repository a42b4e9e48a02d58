"""Finding the caption of a medium among all, and the medium of a caption."""
