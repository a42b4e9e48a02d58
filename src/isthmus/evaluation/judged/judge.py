"""A judge behind any server that speaks as OpenAI's does, asked by its official client."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from threading import Lock
from typing import Any

from isthmus.display.embedding import data_uri


@dataclass(frozen=True)
class Question:
    """What a judge is asked.

    Attributes:
        words: the rubric, filled in.
        pictures: PNG files, in the order in which the words speak of them.
    """

    words: str
    pictures: Sequence[bytes] = field(repr=False)

    def key(self, protocol: Mapping[str, Any]) -> str:
        """The same for the same question to a judge of this :attr:`OpenAIJudge.protocol`, and for no other."""
        digest = sha256(f"{json.dumps(protocol, sort_keys=True)}\n{self.words}".encode())
        for picture in self.pictures:
            digest.update(sha256(picture).digest())
        return digest.hexdigest()[:32]


class Unjudged(Exception):
    """The judge gave no verdict, after all tries: it couldn't be reached, refused, or said nothing."""


class OpenAIJudge:
    """Asks a model for verdicts on pictures, at ``/chat/completions`` of a server. Needs the extra ``judge``.

    Args:
        model: its name, as the server knows it. It stands in the protocol, so name a dated version where there is one.
        base_url: of the server, as ``https://api.openai.com/v1`` or ``http://localhost:8000/v1``.
        key_variable: the environment variable that holds the key. The key itself is in no config and in no file that a
            run writes; where the variable isn't set, ``none`` is sent, which servers of one's own take.
        retries: of a request that fails by a timeout, a limit of rates or a fault of the server, with growing waits.
        timeout: of a request, in seconds.
        workers: requests at a time.
        temperature: of the judge's words; None where the model takes none.
        max_tokens: of the judge's words; None where the model takes none.

    Raises:
        ValueError: the client isn't installed, or a number is below its least.
    """

    def __init__(
        self,
        model: str,
        base_url: str = "https://api.openai.com/v1",
        key_variable: str = "OPENAI_API_KEY",
        retries: int = 5,
        timeout: float = 120.0,
        workers: int = 8,
        temperature: float | None = 0.0,
        max_tokens: int | None = 1024,
    ) -> None:
        for name, value, least in (("retries", retries, 0), ("workers", workers, 1), ("max_tokens", max_tokens, 1)):
            if value is not None and value < least:
                raise ValueError(f"{name}: found {value}; expected at least {least}. Fix: raise it.")
        try:
            import openai  # noqa: F401
        except ImportError as error:
            raise ValueError(
                "judge: found no openai; expected its client, which asks the judge. Fix: pip install 'isthmus[judge]'."
            ) from error
        self.model, self.base_url, self.key_variable = model, base_url, key_variable
        self.retries, self.timeout, self.workers = retries, timeout, workers
        self.temperature, self.max_tokens = temperature, max_tokens
        self._client: Any = None
        self._lock = Lock()

    @property
    def protocol(self) -> dict[str, Any]:
        """What decides over a verdict beside the question."""
        return {"judge": self.model, "temperature": self.temperature, "max_tokens": self.max_tokens}

    def ask(self, question: Question) -> str:
        """The judge's words.

        Raises:
            Unjudged: there are none.
            ValueError: the server refuses the key or doesn't know the model: no other question would fare better.
        """
        import openai

        content: list[Any] = [{"type": "text", "text": question.words}]
        shown = [data_uri("image/png", picture) for picture in question.pictures]
        content += [{"type": "image_url", "image_url": {"url": one}} for one in shown]
        options = {"temperature": self.temperature, "max_tokens": self.max_tokens}
        try:
            reply = self._opened().chat.completions.create(
                model=self.model,
                messages=[{"role": "user", "content": content}],
                **{name: value for name, value in options.items() if value is not None},
            )
        except (openai.AuthenticationError, openai.PermissionDeniedError, openai.NotFoundError) as error:
            raise ValueError(
                f"judge: found that {self.base_url} refuses model {self.model!r} with the key of ${self.key_variable} "
                f"({type(error).__name__}); expected a judge. Fix: set the variable, and correct model and base_url."
            ) from error
        except openai.OpenAIError as error:
            raise Unjudged(f"{type(error).__name__}: {' '.join(str(error).split())[:200]}") from error
        except (json.JSONDecodeError, UnicodeDecodeError) as error:  # the client lets its reader's errors through
            raise Unjudged(f"found no chat completion but {' '.join(str(error).split())[:200]}") from error
        if not hasattr(reply, "choices"):  # where a server answers with a page, the client gives its text
            raise Unjudged(f"found no chat completion but {' '.join(str(reply).split())[:80]!r}")
        said = reply.choices[0].message.content if reply.choices else None
        if not said:
            raise Unjudged("the judge said nothing")
        return str(said)

    def _opened(self) -> Any:
        import openai

        with self._lock:
            if self._client is None:
                self._client = openai.OpenAI(
                    base_url=self.base_url,
                    api_key=os.environ.get(self.key_variable) or "none",
                    max_retries=self.retries,
                    timeout=self.timeout,
                )
        return self._client

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in vars(self).items() if key not in ("_client", "_lock")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _client=None, _lock=Lock())
