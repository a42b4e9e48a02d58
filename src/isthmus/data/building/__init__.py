"""Captioned media -> instruction dialogues."""

from isthmus.data.building.built import BuiltDialogues
from isthmus.data.building.gallery import Captioned, Gallery
from isthmus.data.building.templates import Templates, read_templates

__all__ = ["BuiltDialogues", "Captioned", "Gallery", "Templates", "read_templates"]
