"""Config files, found as they're named or under ``configs/`` of the present folder or of the package, and options.

Both are held against the names that options had earlier before any parser reads them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import (  # type: ignore[attr-defined] # the first is exported, but not in its __all__
    ActionConfigFile,
    Namespace,
)

from isthmus.cli.brought import class_paths
from isthmus.cli.parsing.parser import Parser
from isthmus.earlier.options import refuse
from isthmus.paths import shipped_folder, user_path

DEFAULTS = ("trainer.yaml", "stages.yaml", "experts/pocket.yaml")
"""Read before a user's own configs, in this order."""
WORLD = "pocket.yaml"
"""The embedded world's sets and judges, read after them."""
ABSENT = object()
SPLITS = ("sources", "validation", "test")
READ = {"validate": "validation", "test": "test"}
"""Command -> the one split that it reads; any other command reads what its stages need."""


def config_folders() -> list[Path]:
    """The present folder's ``configs``, if it has one, and those that came with the package."""
    own = Path("configs")
    return ([own] if own.is_dir() else []) + [shipped_folder("configs")]


def default_configs(given: Iterable[Any] = ()) -> list[str]:
    """The files of :data:`DEFAULTS` that there are, and of :data:`WORLD` unless somebody brings sets of his own.

    Args:
        given: the user's configurations, as plain dictionaries.
    """
    names = DEFAULTS if any(map(brings_sets, given)) else (*DEFAULTS, WORLD)
    places = ([folder / name for folder in config_folders() if (folder / name).is_file()] for name in names)
    return [str(found[0]) for found in places if found]


def as_read(config: Namespace, command: str) -> Namespace:
    """A command line's configuration, in which the sets are left out that the command doesn't read.

    Who measures somebody's model need not have the files that it was trained on.

    Args:
        config: of all; what is below ``command`` counts.
        command: ``fit``, ``validate`` or ``test``.
    """
    read = config.clone()
    if command in READ:
        for split in SPLITS:
            if split != READ[command]:
                read[command].data[split] = {}
    return read


def brings_sets(config: Any) -> bool:
    """Whether a configuration's ``data`` names a set that isn't of the embedded world."""
    data = config.get("data") if isinstance(config, dict) else None
    sets = [data.get(split) for split in SPLITS] if isinstance(data, dict) else []
    return any(not name.startswith("isthmus.pocket.") for name in class_paths(sets))


def names_key(config: Any, key: str) -> bool:
    """Whether a configuration has a key, at any depth."""
    if isinstance(config, dict):
        return key in config or any(names_key(each, key) for each in config.values())
    return isinstance(config, list) and any(names_key(each, key) for each in config)


def last_with(given: Sequence[Any], *keys: str) -> int:
    """Which of several configurations is the last that has a key, by the keys that lead to it; -1 if none has."""
    found = -1
    for place, config in enumerate(given):
        value = config
        for key in keys:
            value = value.get(key, ABSENT) if isinstance(value, dict) else ABSENT
        found = found if value is ABSENT else place
    return found


def find_config(name: str) -> str:
    """The path of a config file.

    Args:
        name: a path, or a name under a ``configs`` folder such as ``stage1.yaml`` or ``engines/ddp.yaml``.

    Raises:
        ValueError: there is none; the message lists those that there are.
    """
    if (path := user_path(name)).is_file():
        return str(path)
    for folder in config_folders():
        if (folder / name).is_file():
            return str(folder / name)
    known = sorted(
        {path.relative_to(folder).as_posix() for folder in config_folders() for path in folder.rglob("*.yaml")}
    )
    raise ValueError(
        f"-c {name}: found no such file, neither here nor under configs/; expected a path or one of: "
        f"{', '.join(known)}. Fix: correct the name."
    )


def at_home(value: Any) -> Any:
    """Configured values, in which ``~/`` at the head of a string is the home folder."""
    return changed(value, lambda leaf: str(user_path(leaf)) if isinstance(leaf, str) and leaf[:2] == "~/" else leaf)


def changed(value: Any, change: Callable[[Any], Any]) -> Any:
    """Configured values, in which each string and path is what ``change`` makes of it."""
    match value:
        case str() | Path():
            return change(value)
        case dict():
            return {key: changed(each, change) for key, each in value.items()}
        case list():
            return [changed(each, change) for each in value]
        case Namespace():
            for key, each in list(value.items()):
                value[key] = changed(each, change)
            return value
        case _:
            return value


def read_config(path: str) -> Any:
    """A config file's content, as plain dictionaries and lists.

    Raises:
        ValueError: it isn't YAML.
    """
    try:
        return yaml.safe_load(user_path(path).read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(f"{path}: found no YAML ({error}). Fix: correct it.") from error


class NamedConfigFile(ActionConfigFile):
    """``-c``: as jsonargparse's own, after :func:`find_config`; a file with options of earlier names is refused.

    Stages are merged by name: those that a file doesn't name stay.
    """

    def __call__(self, parser: Any, cfg: Any, values: Any, option_string: str | None = None) -> None:
        file = find_config(values)
        refuse(read_config(file), file)
        if isinstance(parser, Parser):
            parser.read.append(file)
        stages = dict(cfg.get("training.stages") or {})
        super().__call__(parser, cfg, file, option_string)  # type: ignore[no-untyped-call]
        if stages:
            cfg["training.stages"] = stages | (cfg.get("training.stages") or {})


def given_configs(args: Sequence[str]) -> Iterator[dict[str, Any]]:
    """What a command line gives: each of its files, and each dotted option, such as ``--data.num_workers 2``.

    Raises:
        ValueError: a file isn't there or isn't YAML, or an option has an earlier name.
    """
    for arg, after in pairwise([*args, ""]):
        name, sign, value = arg.removeprefix("--").partition("=")
        value = value if sign else after
        if arg.partition("=")[0] in ("-c", "--config"):
            yield read_config(find_config(value))
        elif arg.startswith("--"):
            option = _nested(name.removesuffix("+"), value)
            refuse(option, "command line")
            yield option


def option_names(args: Sequence[str]) -> Iterator[str]:
    """``--steps 3 --out=here`` -> ``steps``, ``out``."""
    return (arg[2:].partition("=")[0] for arg in args if arg.startswith("--"))


def _nested(name: str, value: str) -> dict[str, Any]:
    try:
        found = yaml.safe_load(value)
    except yaml.YAMLError:  # a text; what is wrong with it the parser will say
        found = value
    for key in reversed(name.split(".")):
        found = {key: found}
    nested: dict[str, Any] = found
    return nested
