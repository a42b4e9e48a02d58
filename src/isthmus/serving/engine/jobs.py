"""What the engine answers: a request's prompt, what its answer may hold, and who takes its events."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from isthmus.backbones.base import Sampling
from isthmus.model import AnyToAny, Reply
from isthmus.types import Batch, Media, Modality


@dataclass(frozen=True)
class PartialImage:
    """A picture as the generator predicts it before it is done.

    Attributes:
        medium: the picture.
        number: of the picture among the answer's, from 0.
        index: of this look at it, from 0.
    """

    medium: Media
    number: int
    index: int


Event = str | PartialImage | Reply | BaseException
"""What a job emits: pieces of text as they are decoded, partial images; at its end its reply, or an error."""


class Busy(Exception):
    """The queue is full, or the engine is stopping.

    Args:
        retry_after: seconds after which a place may be free.
    """

    def __init__(self, retry_after: int) -> None:
        super().__init__(f"busy; retry after {retry_after} s")
        self.retry_after = retry_after


@dataclass(eq=False)
class Job:
    """A request in the engine.

    Attributes:
        batch: its prompt.
        sampling: of the answer; its seed is that of the media too.
        emit: takes events, in the engine's thread: it must return at once.
        seconds: in which it must be answered.
        required: media that the answer must hold.
        allowed: media that it may hold; all if None.
        num_inference_steps: of generators.
        guidance_scale: of generators.
        streams: whether the text is wanted as it is decoded.
        client: who asks; waiting jobs begin by turns of their clients.
        model: that answers, over the engine's own experts; the engine's model if None.
        partial_images: how often each picture is shown before it is done, where it has steps enough.
        on_step: is told how many denoising steps of a medium are done, and of how many; like ``emit``.
        is_cancelled: set by :meth:`cancel`.
        has_ended: whether the last event was emitted.
        stage: what is done for it: ``waiting``, ``decoding`` or ``media``.
    """

    batch: Batch
    sampling: Sampling
    emit: Callable[[Event], None]
    seconds: float
    required: Sequence[Modality] = ()
    allowed: Sequence[Modality] | None = None
    num_inference_steps: int | None = None
    guidance_scale: float | None = None
    streams: bool = True
    client: str = ""
    model: AnyToAny | None = None
    partial_images: int = 0
    on_step: Callable[[Modality, int, int], None] | None = None
    is_cancelled: bool = False
    has_ended: bool = False
    stage: str = "waiting"
    begun: float = field(default_factory=time.monotonic)
    _sent: str = ""

    def cancel(self) -> None:
        """Nobody waits for the answer any more: it ends before its next token, or after the next denoising step."""
        self.is_cancelled = True

    @property
    def is_late(self) -> bool:
        """Whether its time is over."""
        return time.monotonic() - self.begun > self.seconds

    @property
    def is_over(self) -> bool:
        """Whether nobody waits for it, or its time is over."""
        return self.is_cancelled or self.is_late

    def say(self, words: str) -> None:
        """Emits what the text so far has more than before."""
        if words != self._sent and words.startswith(self._sent):
            self.emit(words[len(self._sent) :])
            self._sent = words
