"""Options under the names that they had in 0.1, and under those that they have now: one table for every use of them.

A configuration, an argument in Python or a command line that has an earlier name ends in one error, which says the
present name (:func:`refuse`, :func:`known_names`). What earlier versions wrote, bundles and checkpoints, is read under
the present names (:func:`renamed`, :func:`present_names`).
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

from isthmus.earlier.modules import present_path

C = TypeVar("C", bound=Callable[..., Any])


@dataclass(frozen=True)
class Renamed:
    """Options of like classes, functions or commands.

    Attributes:
        package: where these are, as ``isthmus.generators.``.
        owners: their names; all of the package if empty.
        names: earlier name -> present name.
        places: ends of the paths in a configuration where they stand without a ``class_path`` beside them, since there
            is none or an earlier file has it. ``*`` is any key; a leading dot stands for the configuration's beginning.
        gone: earlier name -> why there is none now.
    """

    package: str
    owners: tuple[str, ...]
    names: Mapping[str, str]
    places: tuple[str, ...] = ()
    gone: Mapping[str, str] = field(default_factory=dict)

    def concerns(self, owner: str) -> bool:
        """Whether this is about a class or function of that whole name, which may be its room's or its module's."""
        own = owner.removeprefix(self.package)
        return own != owner and (
            not self.owners or any(own == name or own.endswith(f".{name}") for name in self.owners)
        )


SAMPLERS = {"steps": "num_inference_steps", "guidance": "guidance_scale"}
"""As in diffusers."""

TABLE = (
    Renamed(
        "isthmus.data.",
        ("ConversationDataModule", "ConversationLoader"),
        {"workers": "num_workers", "start_method": "multiprocessing_context"},  # torch.utils.data.DataLoader
        (".data",),
    ),
    Renamed(
        "isthmus.backbones.",
        ("LoraSettings",),
        {"rank": "r", "alpha": "lora_alpha", "dropout": "lora_dropout", "targets": "target_modules"},  # peft.LoraConfig
        ("lora",),
    ),
    Renamed(
        "isthmus.backbones.",
        ("QuantizationSettings",),
        {"form": "quant_type", "double": "use_double_quant"},  # bnb_4bit_* of transformers.BitsAndBytesConfig
        ("quantization",),
    ),
    Renamed(
        "isthmus.backbones.",
        ("PretrainedLanguageModel", "CausalBackbone", "EncoderDecoderBackbone"),
        {"stops": "stop_strings"},  # transformers.GenerationConfig
        ("language_model", "language_model.init_args"),
        gone={"recompute": "it spared 1 % of the memory with bfloat16 and LoRA; checkpointed_layers spares more"},
    ),
    Renamed("isthmus.backbones.", ("Sampling",), {"max_tokens": "max_new_tokens"}, ("sampling",)),
    Renamed("isthmus.generators.", (), {**SAMPLERS, "frames": "num_frames", "precision": "dtype"}),
    Renamed("isthmus.encoders.", ("FramesEncoder",), {"frames": "num_frames"}),  # transformers.VideoMAEConfig
    Renamed("isthmus.encoders.", ("TimmVision",), {"model": "model_name"}),  # timm.create_model
    Renamed("isthmus.cache.", ("CacheSettings",), {"storage": "dtype"}, ("cache",)),
    Renamed("isthmus.model.", ("Backbone",), {"max_tokens": "max_length"}, ("backbone", "backbone.init_args")),
    Renamed("isthmus.model.", ("AnyToAny.answer", "AnyToAny.chat", "OutputSide.generate"), SAMPLERS),
    Renamed("isthmus.inference.", ("Pipeline", "Pipeline.open"), SAMPLERS),
    Renamed(
        "isthmus.training.",
        ("Stage",),
        {"warm_up": "warmup_ratio", "decay": "lr_scheduler_type"},  # transformers.TrainingArguments
        ("stages.*",),
    ),
    Renamed(
        "isthmus.training.",
        ("GroupPolicy",),
        {"max_tokens": "max_new_tokens", "steps": "num_inference_steps", "group": "num_generations"},  # trl.GRPOConfig
        ("objective", "objective.init_args"),
    ),
    Renamed("isthmus.training.", ("Preference",), {"form": "loss_type"}, ("objective", "objective.init_args")),
    Renamed("isthmus ", ("chat", "generate"), {**SAMPLERS, "max_tokens": "max_new_tokens"}),
)


def present_names(owner: str) -> dict[str, str]:
    """Earlier name -> present name, of the options of a class, a function or a command (``isthmus chat``)."""
    return {old: new for row in TABLE if row.concerns(owner) for old, new in row.names.items()}


def known_names(owner: str, given: Mapping[str, Any], where: str) -> None:
    """Holds the options that somebody gives against the table.

    Args:
        owner: whose options they are, see :func:`present_names`.
        given: by name.
        where: what an error calls their place.

    Raises:
        ValueError: an earlier name is among them.
    """
    rows = [row for row in TABLE if row.concerns(owner)]
    _refuse([said for row in rows for said in _said(row, given, "")], where)


def refuse(configuration: Any, where: str) -> None:
    """Holds a configuration against the table, each of its parts at any depth.

    Args:
        configuration: plain dictionaries and lists, as YAML gives them.
        where: the file or the command line that it is of.

    Raises:
        ValueError: it has an option under an earlier name; all of them are named.
    """
    found = [
        said
        for path, options, rows in _parts(configuration, (), True)
        for row in rows
        for said in _said(row, options, ".".join((*path, "")))
    ]
    _refuse(found, where)


def renamed(configuration: Any) -> Any:
    """A copy of what an earlier version wrote: options and classes' modules have present names, and none is gone.

    Args:
        configuration: as for :func:`refuse`.
    """
    changes = {id(options): rows for _, options, rows in _parts(configuration, (), True)}

    def copied(value: Any) -> Any:
        match value:
            case dict():
                rows = changes.get(id(value), ())
                names = {old: new for row in rows for old, new in row.names.items()}
                gone = {name for row in rows for name in row.gone}
                return {
                    names.get(key, key): present_path(own) if key == "class_path" else copied(own)
                    for key, own in value.items()
                    if key not in gone
                }
            case list():
                return [copied(own) for own in value]
            case _:
                return value

    return copied(configuration)


def takes_present_names(owner: C) -> C:
    """Decorates a class or function of the table: an argument of an earlier name is refused with the present one.

    Raises:
        ValueError: by the decorated one, when it is called so.
    """
    called: Callable[..., Any] = owner.__init__ if isinstance(owner, type) else owner  # type: ignore[misc]
    name = f"{owner.__module__}.{owner.__qualname__}"
    taken = set(inspect.signature(called).parameters)

    @functools.wraps(called)
    def checked(*args: Any, **kwargs: Any) -> Any:
        if not kwargs.keys() <= taken:
            known_names(name, {key: value for key, value in kwargs.items() if key not in taken}, owner.__qualname__)
        return called(*args, **kwargs)

    if isinstance(owner, type):
        owner.__init__ = checked  # type: ignore[misc]
        return owner
    return cast(C, checked)


def _parts(value: Any, path: tuple[str, ...], is_ours: bool) -> Iterator[tuple[tuple[str, ...], dict[str, Any], Any]]:
    """Every dictionary of options: its path, itself, and the table's rows about it."""
    match value:
        case {"class_path": str(owner)}:
            options = value.get("init_args")
            if isinstance(options, dict):
                yield (*path, "init_args"), options, [row for row in TABLE if row.concerns(owner)]
                for key, own in options.items():
                    yield from _parts(own, (*path, "init_args", str(key)), owner.startswith("isthmus."))
        case dict():
            # What another package's class takes under a name of ours is that package's affair.
            yield path, value, [row for row in TABLE if is_ours and any(_ends(path, place) for place in row.places)]
            for key, own in value.items():
                yield from _parts(own, (*path, str(key)), is_ours)
        case list():
            for at, own in enumerate(value):
                yield from _parts(own, (*path, str(at)), is_ours)


def _ends(path: tuple[str, ...], place: str) -> bool:
    """Whether a path ends at a place; the configuration itself is the empty key."""
    wanted = place.split(".")
    own = ("", *path)[-len(wanted) :]
    return len(own) == len(wanted) and all(want in ("*", key) for want, key in zip(wanted, own, strict=True))


def _said(row: Renamed, options: Mapping[str, Any], path: str) -> list[str]:
    renamed_ones = [f"{path}{old} is called {new} now" for old, new in row.names.items() if old in options]
    return renamed_ones + [f"{path}{old} is gone: {why}" for old, why in row.gone.items() if old in options]


def _refuse(found: list[str], where: str) -> None:
    if found:
        fix = "rename it" if len(found) == 1 else "rename them"
        if any(" is gone: " in said for said in found):
            fix = "take out what is gone" if all(" is gone: " in said for said in found) else f"{fix}, or take them out"
        raise ValueError(f"{where}: {'; '.join(found)}. Fix: {fix}.")
