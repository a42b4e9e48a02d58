"""What griffe, which reads the package for the site, does with each docstring and class."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import griffe

sys.path.insert(0, str(Path(__file__).parent))  # griffe loads this file by its path

from docstrings import shown


class Docstrings(griffe.Extension):
    """Applies :func:`docstrings.shown` to every docstring."""

    def on_instance(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Called by griffe for each module, class, function and attribute that it has read."""
        if obj.docstring is not None:
            obj.docstring.value = shown(obj.docstring.value)

    def on_class_members(self, *, cls: griffe.Class, **kwargs: Any) -> None:
        """Called when a class has been read. One that is made by ``__new__`` has its arguments there."""
        if "__new__" in cls.members and "__init__" not in cls.members:
            cls.members["__init__"] = cls.members["__new__"]
