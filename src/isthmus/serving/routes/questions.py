"""What a route asks a model, and whether the model can do it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from isthmus.model import AnyToAny
from isthmus.serving.errors import invalid
from isthmus.serving.schema import ChatRequest
from isthmus.types import Modality


@dataclass(frozen=True)
class Question:
    """A request of any route in the words of chat.

    Attributes:
        chat: what the model is asked.
        names: field of chat -> what the route calls it, for errors.
        takes: media that the model must take for this route.
        makes: media that it must make.
        allowed: media that the answer may hold; as ``chat.modalities`` says if None.
        partial_images: how often each picture is shown before it is done.
    """

    chat: ChatRequest
    names: Mapping[str, str] = field(default_factory=dict)
    takes: Sequence[Modality] = ()
    makes: Sequence[Modality] = ()
    allowed: Sequence[Modality] | None = None
    partial_images: int = 0

    def check_model(self, name: str, model: AnyToAny) -> None:
        """Holds what the route needs against what the model of this name can.

        Raises:
            ApiError: it can't take, make or show it.
        """
        for verb, wanted, has in (("takes", self.takes, model.inputs), ("makes", self.makes, model.outputs)):
            if absent := [modality for modality in wanted if modality not in has]:
                found = f"model: found '{name}', which {verb} {', '.join(['text', *has])}"
                raise invalid(
                    f"{found}; expected one that {verb} {absent[0]}. Fix: ask another server, or leave this route.",
                    "model",
                    "unsupported_model",
                )
        if self.partial_images:
            self._check_partial_images(name, model)

    def _check_partial_images(self, name: str, model: AnyToAny) -> None:
        found = f"partial_images: found {self.partial_images}"
        if not self.chat.stream:
            raise invalid(f"{found} without a stream; expected 0. Fix: send stream: true.", "partial_images")
        assert model.output_side is not None, "the model makes pictures"
        generator = model.output_side.generator(Modality.IMAGE)
        if not generator.has_estimates:
            raise invalid(
                f"{found}; expected 0, since '{name}' draws with {type(generator).__name__}, which shows no picture "
                "before it is done. Fix: leave it out.",
                "partial_images",
                "unsupported_parameter",
            )
