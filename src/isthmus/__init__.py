"""Any-to-any multimodal language models: frozen experts, joined by thin trained bridges.

    F_X = Encoder(I_X)    P_X = InputProjector(F_X)    t, S_X = LLM(P_X, text)
    H_X = OutputProjector(S_X)    X = Generator(H_X)

The names below load on first use (PEP 562): ``import isthmus`` imports neither torch nor any other heavy library.
``AnyToAny.from_checkpoint(...)`` opens a trained model; ``.chat(messages)`` talks to it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from isthmus.model import AnyToAny, Backbone, InputSide, OutputSide
    from isthmus.training import Stage, StageSwitch
    from isthmus.types import Media, Modality

__version__ = "0.1.0"

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


def __getattr__(name: str) -> object:
    """Imports the room in which ``name`` lives.

    Raises:
        AttributeError: the package exports no such name.
    """
    if name not in _HOMES:
        raise AttributeError(f"module 'isthmus' has no attribute '{name}'; it exports {', '.join(__all__)}")
    value: object = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value  # the next access finds it without coming here
    return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
