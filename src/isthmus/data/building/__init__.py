"""Captioned media -> instruction dialogues."""

from isthmus.data.building.built import BuiltDialogues
from isthmus.data.building.media_pool import Captioned, MediaPool
from isthmus.data.building.templates import Templates, read_templates

__all__ = ["BuiltDialogues", "Captioned", "MediaPool", "Templates", "read_templates"]
