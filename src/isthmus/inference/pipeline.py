"""Requests in the chat-content convention -> replies. The model and its experts stay loaded between requests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from isthmus.backbones.base import Sampling
from isthmus.data.conversations.schema import parse_conversation
from isthmus.earlier.options import takes_present_names
from isthmus.inference.session import Session
from isthmus.modalities import is_medium, known_media
from isthmus.model import AnyToAny, Reply
from isthmus.model.any_to_any import turns
from isthmus.model.memory import Memory
from isthmus.types import Modality

Messages = str | Sequence[Mapping[str, Any]]


@takes_present_names
class Pipeline:
    """A model that answers requests, one at a time or in batches.

    Args:
        model: built.
        sampling: of text; its seed also determines the media, and its context may lower the LLM's. The model's own if
            None.
        num_inference_steps: of the generators; each one's own if None.
        guidance_scale: likewise.
        batch_size: number of requests that are decoded together.

    Raises:
        ValueError: the batch size is below one, or the context exceeds the LLM's.
    """

    def __init__(
        self,
        model: AnyToAny,
        sampling: Sampling | None = None,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        batch_size: int = 16,
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size: found {batch_size}; expected at least 1")
        self.model = model.eval()
        self.sampling = sampling or model.sampling
        # Fails before the first request if the context exceeds the LLM's.
        model.backbone.language_model.prompt_limits(self.sampling, allowed=model.outputs)
        self.num_inference_steps = num_inference_steps
        self.guidance_scale = guidance_scale
        self.batch_size = batch_size

    @classmethod
    @takes_present_names
    def open(
        cls,
        folder: str | Path,
        device: str = "auto",
        sampling: Sampling | None = None,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        allow: Sequence[str] = (),
        experts: Mapping[str, str | Path] | None = None,
        experts_root: str | Path | None = None,
    ) -> Pipeline:
        """The pipeline of a folder that training wrote.

        Args:
            folder: the trained stage's.
            device: auto, cpu, cuda, cuda:1, ...
            sampling: of text; the model's own if None.
            num_inference_steps: of the generators; each one's own if None.
            guidance_scale: likewise.
            allow: packages besides this one whose classes the folder may name; their code is run.
            experts: where experts lie, by role: see :meth:`isthmus.model.AnyToAny.from_checkpoint`.
            experts_root: a folder with the other experts.

        Raises:
            ValueError: see :meth:`isthmus.model.AnyToAny.from_checkpoint`; or torch doesn't know the device.
        """
        model = AnyToAny.from_checkpoint(folder, chosen_device(device), allow, experts, experts_root)
        return cls(model, sampling, num_inference_steps, guidance_scale)

    @property
    def outputs(self) -> list[Modality]:
        """The media that the model generates."""
        return self.model.outputs

    def __call__(
        self,
        requests: Sequence[Messages],
        require: Sequence[Sequence[str]] | None = None,
        seed: int | None = None,
        memory: Memory | None = None,
    ) -> list[Reply]:
        """Answers the last turn of each conversation.

        If one exceeds the LLM's context, its oldest exchanges are left out: ``Reply.left_out``.

        Args:
            requests: conversations in the chat-content convention.
            require: the media that each one's reply must hold.
            seed: replaces the sampling's. Request i is sampled with ``seed + i``, so that its answer doesn't depend on
                the other requests of the batch, within float32 rounding.
            memory: cached results of the conversation, if there is only one; they aren't computed again.

        Raises:
            ValueError: a malformed request, a medium that the model doesn't take, or a required one without generator.
        """
        name_lists = [[]] * len(requests) if require is None else require
        if len(name_lists) != len(requests):
            raise ValueError(f"require: found {len(name_lists)} lists for {len(requests)} requests; give one for each")
        if memory is not None and len(requests) != 1:
            raise ValueError(f"memory: found {len(requests)} requests; a memory is of one conversation. Leave it out.")
        required = [[_medium(name) for name in names] for names in name_lists]
        conversations = [
            parse_conversation({"messages": turns(messages)}, f"requests[{i}]", captions_required=False)
            for i, messages in enumerate(requests)
        ]
        first = self.sampling.seed if seed is None else seed
        replies: list[Reply] = []
        for start in range(0, len(conversations), self.batch_size):
            piece = conversations[start : start + self.batch_size]
            owed = required[start : start + self.batch_size]
            replies += self.model.answer(
                self.model.prompts(piece, self.sampling, owed, memory),
                replace(self.sampling, seed=first + start),
                owed,
                seeds=[first + start + row for row in range(len(piece))],
                num_inference_steps=self.num_inference_steps,
                guidance_scale=self.guidance_scale,
                memory=memory,
            )
        return replies

    def session(self) -> Session:
        """A new conversation."""
        side = self.model.input_side
        return Session(self, requests={} if side is None else side.requests())


def chosen_device(device: str) -> torch.device:
    """The device of that name; ``auto`` is the GPU where there is one.

    Raises:
        ValueError: torch doesn't know it, or this machine has none.
    """
    chosen = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    try:
        target = torch.device(chosen)
    except RuntimeError as error:
        raise ValueError(f"device: found '{device}'; expected auto, cpu, cuda or cuda:N") from error
    if target.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"device: found '{device}', but this machine has no usable GPU; expected auto or cpu")
    return target


def _medium(name: str) -> Modality:
    if not is_medium(name):
        raise ValueError(f"require: found '{name}'; expected media: {', '.join(known_media())}")
    return Modality(name)
