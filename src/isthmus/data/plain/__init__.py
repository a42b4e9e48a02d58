"""Plain text prompts: a broad set by composition, and a test of facts whose subjects are held out of it."""

from isthmus.data.plain.prompts import PlainPrompt, built_in_prompts, read_prompts
from isthmus.data.plain.questions import PlainQuestion, held_out, plain_questions

__all__ = ["PlainPrompt", "PlainQuestion", "built_in_prompts", "held_out", "plain_questions", "read_prompts"]
