"""Plain text: a broad set of prompts by composition, and tests of facts and of language that are held out of it."""

from isthmus.data.plain.prompts import PlainPrompt, built_in_prompts, read_prompts
from isthmus.data.plain.questions import PlainQuestion, held_out, plain_questions, states_one
from isthmus.data.plain.source import PlainQuestions
from isthmus.data.plain.texts import passages, reference_sections

__all__ = [
    "PlainPrompt",
    "PlainQuestion",
    "PlainQuestions",
    "built_in_prompts",
    "held_out",
    "passages",
    "plain_questions",
    "read_prompts",
    "reference_sections",
    "states_one",
]
