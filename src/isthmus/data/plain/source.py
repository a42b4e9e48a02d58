"""The plain questions as conversations, for a test."""

from __future__ import annotations

from isthmus.data.conversations.schema import Conversation, Message, TextItem
from isthmus.data.conversations.sources import ConversationSource
from isthmus.data.plain.questions import plain_questions

TASK = "plain"


class PlainQuestions(ConversationSource):
    """Questions with exact facts, to be answered in words; ``details`` hold ``task``, ``kind`` and ``answers``.

    Args:
        count: how many, of each kind in turn.

    Raises:
        ValueError: a count below one, or more than there are.
    """

    name = "plain"

    def __init__(self, count: int = 100) -> None:
        if not 1 <= count <= len(plain_questions()):
            raise ValueError(
                f"plain.count: found {count}; expected 1 to {len(plain_questions())}. Fix: choose a number in between."
            )
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Conversation:
        """The question.

        Raises:
            IndexError: outside the source.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"{self.name}: no item {index} among {len(self)}")
        question = plain_questions()[index]
        details = {"id": f"plain-{index}", "task": TASK, "kind": question.kind, "answers": list(question.answers)}
        return Conversation((Message("user", (TextItem(question.text),)),), details)
