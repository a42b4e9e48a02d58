"""Any-to-any multimodal language models: frozen experts, joined by thin trained bridges.

    F_X = Encoder(I_X)    P_X = InputProjector(F_X)    t, S_X = LLM(P_X, text)
    H_X = OutputProjector(S_X)    X = Generator(H_X)

The names below load on first use (PEP 562): ``import isthmus`` imports neither torch nor any other heavy library.
``AnyToAny.from_checkpoint(...)`` opens a trained model; ``.chat(messages)`` talks to it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from isthmus.earlier.modules import redirect
from isthmus.exports import lazy

if TYPE_CHECKING:
    from isthmus.model import AnyToAny, Backbone, InputSide, OutputSide
    from isthmus.training import Stage, StageSwitch
    from isthmus.types import Media, Modality

__version__ = "0.2.0"

__all__ = [
    "AnyToAny",
    "Backbone",
    "InputSide",
    "Media",
    "Modality",
    "OutputSide",
    "Stage",
    "StageSwitch",
    "__version__",
]

_HOMES = {
    "AnyToAny": "isthmus.model",
    "Backbone": "isthmus.model",
    "InputSide": "isthmus.model",
    "OutputSide": "isthmus.model",
    "Stage": "isthmus.training",
    "StageSwitch": "isthmus.training",
    "Media": "isthmus.types",
    "Modality": "isthmus.types",
}

__getattr__, __dir__ = lazy(__name__, _HOMES)

redirect()
