"""The data room: a conversation of text and media -> a batch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from isthmus.exports import lazy

if TYPE_CHECKING:
    from isthmus.data.building import BuiltDialogues
    from isthmus.data.conversations.sources import JsonLines
    from isthmus.data.module import ConversationDataModule
    from isthmus.data.streaming import Shards

__all__ = ["BuiltDialogues", "ConversationDataModule", "JsonLines", "Shards"]

_HOMES = {
    "BuiltDialogues": "isthmus.data.building",
    "ConversationDataModule": "isthmus.data.module",
    "JsonLines": "isthmus.data.conversations.sources",
    "Shards": "isthmus.data.streaming",
}

__getattr__, __dir__ = lazy(__name__, _HOMES)
