"""What ``--help`` shows of an option: its type by a word, not as Python prints the object that converts the value."""

from __future__ import annotations

from argparse import Action
from types import FunctionType
from typing import get_type_hints

from jsonargparse import DefaultHelpFormatter


class HelpFormatter(DefaultHelpFormatter):
    """jsonargparse's, with the names of classes, and for a function the name of what it returns."""

    def _get_type_str(self, action: Action) -> str | None:
        """The type's name; None where the action has no type."""
        shown = super()._get_type_str(action)
        if shown is None or not shown.startswith("<"):  # <function user_path at 0x7f...>, <class 'Backbone'>
            return shown
        kind = action.type or getattr(action, "_typehint", None)
        if isinstance(kind, FunctionType):
            kind = get_type_hints(kind)["return"]
        return str(getattr(kind, "__name__", kind))
