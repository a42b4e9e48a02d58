"""lmms-eval runs its benchmarks on a model of ours: ``lmms-eval --model isthmus --model_args pretrained=FOLDER``.

The library finds :func:`manifest` by the entry point ``lmms_eval.models``. It is asked by everything that lists models,
so that nothing heavy is imported here.
"""

from __future__ import annotations

from typing import Any

NAME = "isthmus"
"""What follows ``--model``."""


def manifest() -> Any:
    """The ``ModelManifest`` that lmms-eval registers: the class of its chat interface, and of its older one."""
    from lmms_eval.models.registry_v2 import ModelManifest

    simple, chat = f"{__name__}.simple.SimpleModel", f"{__name__}.chat.ChatModel"
    return ModelManifest(NAME, simple_class_path=simple, chat_class_path=chat)
