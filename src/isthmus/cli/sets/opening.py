"""Sets named on a command line: a file with its format, or the ``data`` of a config."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ArgumentError, ArgumentParser

from isthmus.cli.brought import bring, class_paths
from isthmus.cli.configs import SPLITS, find_config, read_config
from isthmus.cli.parsing.faults import read_fault
from isthmus.cli.parsing.words import worded
from isthmus.data.conversations.sources import ConversationSource
from isthmus.earlier.options import refuse

PAIRS = ("PreferenceLines", "PromptedPairs", "Transcripts", "ImageQuestions", "RankedResponses")
OWN = {name: f"isthmus.data.{name}" for name in ("JsonLines", "Shards")}
OWN |= {name: f"isthmus.data.conversations.preferences.{name}" for name in PAIRS}


def open_sets(
    specs: Sequence[str],
    form: str = "JsonLines",
    root: Path | None = None,
    options: Sequence[str] = (),
    brings: Sequence[str] = (),
) -> dict[str, ConversationSource]:
    """Specs -> sets by name. Those of a config are named by split too, as ``validation/matrix``.

    Args:
        specs: files of one format, or configs (``.yaml``).
        form: the format: a name in :mod:`isthmus.data.formats` or
            :mod:`isthmus.data.conversations.preferences`, ``JsonLines``, ``Shards``, or a class's whole path.
        root: the media's folder, for files.
        options: further arguments of the format, as ``direction=draw``.
        brings: import paths of classes that bring modalities of the sets. A config's own parts do so by themselves.

    Raises:
        ValueError: no such file or format, an argument that the format doesn't take, or a config without ``data``.
    """
    bring(brings)
    sets: dict[str, ConversationSource] = {}
    for spec in specs:
        if spec.endswith((".yaml", ".yml")):
            found = _of_config(find_config(spec))
        else:
            arguments: dict[str, Any] = {"path": spec, **_options(options)}
            if root is not None:
                arguments["root"] = str(root)
            # Half the sets there are call their file so.
            name = Path(spec).resolve().parent.name if Path(spec).stem == "manifest" else Path(spec).stem
            found = {name: _build({"class_path": _class_path(form), "init_args": arguments}, spec)}
        for name, source in found.items():
            sets[name if name not in sets else f"{spec}: {name}"] = source
    return sets


def _of_config(path: str) -> dict[str, ConversationSource]:
    config = read_config(path)
    refuse(config, path)
    model = config.get("model") if isinstance(config, Mapping) else None
    bring([name for name in class_paths(model) if not name.startswith("isthmus.")])
    data = config.get("data") if isinstance(config, Mapping) else None
    if not isinstance(data, Mapping) or not any(data.get(split) for split in SPLITS):
        raise ValueError(f"{path}: found no sets; expected data: with {', '.join(SPLITS)}. Fix: name another config.")
    return {
        name if split == "sources" else f"{split}/{name}": _build(described, f"{path}: data.{split}.{name}")
        for split in SPLITS
        for name, described in (data.get(split) or {}).items()
    }


def _class_path(name: str) -> str:
    from isthmus.data import formats

    if "." in name:
        return name
    if name in OWN:
        return OWN[name]
    if name not in formats.__all__:
        raise ValueError(f"--format: found {name!r}; expected one of {', '.join([*OWN, *formats.__all__])}")
    return f"isthmus.data.formats.{name}"


def _options(options: Sequence[str]) -> dict[str, Any]:
    parsed = {}
    for option in options:
        key, sign, value = option.partition("=")
        if not sign:
            raise ValueError(f"--option: found {option!r}; expected name=value, as direction=draw")
        parsed[key] = yaml.safe_load(value)
    return parsed


def _build(described: Any, where: str) -> ConversationSource:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(ConversationSource, "source", required=True)
    try:
        config = parser.parse_object({"source": described})
    except ArgumentError as error:
        raise ValueError(f"{where}: {worded(read_fault(str(error)), {})}") from error
    with warnings.catch_warnings():
        # The newer name of this call isn't in the least version that is required.
        warnings.simplefilter("ignore", DeprecationWarning)
        source: ConversationSource = parser.instantiate_classes(config).source
    return source
