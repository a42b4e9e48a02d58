"""Reads and writes media files, one folder for each kind; limits are checked before anything is decoded."""
