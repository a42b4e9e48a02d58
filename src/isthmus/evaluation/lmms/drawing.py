"""How a task wants its answers drawn: lmms-eval's ``generation_kwargs``."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from isthmus.backbones.base import Sampling

log = logging.getLogger(__name__)

LONGEST = 1024
"""Tokens of an answer to a task that says none."""
LENGTHS = ("max_new_tokens", "max_gen_toks", "max_tokens")
PARAGRAPH = "\n\n"
"""What lmms-eval ends answers with where a task says nothing. As its own models do, ours go on after it."""
WITHOUT_EFFECT = {"num_beams": (None, 1), "top_k": (None, 0, -1), "repetition_penalty": (None, 1, 1.0)}
"""Ways of drawing that the decoder doesn't have, with the values that ask for none."""


@dataclass(frozen=True)
class Drawing:
    """How an answer is drawn; questions that share it are answered together.

    Attributes:
        max_new_tokens: after which it ends.
        temperature: 0 takes the likeliest token.
        top_p: of sampling.
        stops: texts before which it is cut off.
    """

    max_new_tokens: int = LONGEST
    temperature: float = 0.0
    top_p: float = 1.0
    stops: tuple[str, ...] = ()

    @classmethod
    def read(cls, given: Mapping[str, Any], where: str) -> Drawing:
        """The ``generation_kwargs`` of a request -> how it is drawn.

        Args:
            given: what the decoder doesn't have is logged; what isn't about drawing is passed over.
            where: names the task in a message.
        """
        for name, neutral in WITHOUT_EFFECT.items():
            if given.get(name) not in neutral:
                _say(where, name, str(given[name]))
        temperature, top_p = given.get("temperature"), given.get("top_p")
        samples = bool(given.get("do_sample", temperature)) and temperature != 0 and top_p != 0
        stops = given.get("until") or ()
        return cls(
            next((int(given[name]) for name in LENGTHS if given.get(name)), LONGEST),
            float(1.0 if temperature is None else temperature) if samples else 0.0,
            float(top_p or 1.0) if samples else 1.0,
            tuple(stop for stop in ([stops] if isinstance(stops, str) else stops) if stop and stop != PARAGRAPH),
        )

    def sampling(self, seed: int) -> Sampling:
        """The same for our decoder."""
        return Sampling(self.max_new_tokens, self.temperature, self.top_p, seed)

    def cut(self, text: str) -> str:
        """The text before the first of the stops."""
        return text[: min((at for stop in self.stops if (at := text.find(stop)) >= 0), default=len(text))]


@cache
def _say(where: str, name: str, value: str) -> None:
    """Logs it once, not for each of a task's documents."""
    log.warning("%s: %s %s isn't supported; answers are drawn without it", where, name, value)
