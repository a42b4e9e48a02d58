"""Marks such as ``<image>``: where a text says that a medium belongs. Within code they are text."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator

from isthmus.data.conversations.schema import Conversation, MediumItem, TextItem
from isthmus.data.media.remarks import Remark, remark
from isthmus.modalities import MEDIA

_MARK = r"```.*?(?:```|\Z)|``.+?``|`[^`\n]+`|<({})>"
"""Code between backquotes, which is passed over, or a mark."""


def marks(text: str, others: Collection[str] = ()) -> Iterator[re.Match[str]]:
    """The marks of a text outside of code, each with its modality as first group.

    They are those of :data:`~isthmus.modalities.MEDIA`, which other formats write, and of the ``others`` that a record
    gives.
    """
    kinds = dict.fromkeys((*map(str, MEDIA), *sorted(others)))
    return (found for found in re.finditer(_MARK.format("|".join(kinds)), text, re.DOTALL) if found[1])


def told(conversation: Conversation, where: str) -> Conversation:
    """The conversation itself, its :func:`unserved_marks` counted and told."""
    if unserved := unserved_marks(conversation):
        remark(Remark.MARK, where, f"found {unserved} in a text, and no such medium: it is text")
    return conversation


def unserved_marks(conversation: Conversation) -> str:
    """Marks of whose kind nothing is given, as ``<image>, <audio>``: perhaps a field wasn't read."""
    given = [item for message in conversation.messages if message.role != "assistant" for item in message.content]
    shown = {item.modality for item in given if isinstance(item, MediumItem)}
    named = {mark[1] for item in given if isinstance(item, TextItem) for mark in marks(item.text)}
    return ", ".join(f"<{kind}>" for kind in MEDIA if kind in named and kind not in shown)
