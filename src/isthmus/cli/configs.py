"""Config files, found as they're named or under ``configs/`` of the present folder or of the repository, and options.

Both are held against the names that options had earlier before any parser reads them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import (  # type: ignore[attr-defined] # the first is exported, but not in its __all__
    ActionConfigFile,
    Namespace,
)

from isthmus.cli.parsing.parser import Parser
from isthmus.earlier.options import refuse
from isthmus.paths import user_path

REPOSITORY = Path(__file__).resolve().parents[3]
"""The root of an editable install; of an installed wheel a folder without ``configs``."""


def config_folders() -> list[Path]:
    """The ``configs`` folders that exist; the present folder's comes first."""
    found = [Path("configs"), REPOSITORY / "configs"]
    return [folder for folder in found if folder.is_dir()]


def default_config() -> list[str]:
    """``configs/pocket.yaml``, which every subcommand reads first, or nothing where there is none."""
    return [str(folder / "pocket.yaml") for folder in config_folders() if (folder / "pocket.yaml").is_file()][:1]


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
        f"{', '.join(known) or 'none, since there is no configs folder here'}. "
        f"Fix: {'correct the name' if known else 'run from the repository, or give a path'}."
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
    """``-c``: as jsonargparse's own, after :func:`find_config`; a file with options of earlier names is refused."""

    def __call__(self, parser: Any, cfg: Any, values: Any, option_string: str | None = None) -> None:
        file = find_config(values)
        refuse(read_config(file), file)
        if isinstance(parser, Parser):
            parser.read.append(file)
        super().__call__(parser, cfg, file, option_string)  # type: ignore[no-untyped-call]


def option_names(args: Sequence[str]) -> Iterator[str]:
    """``--steps 3 --out=here`` -> ``steps``, ``out``."""
    return (arg[2:].partition("=")[0] for arg in args if arg.startswith("--"))


def refuse_options(args: Sequence[str]) -> None:
    """Holds dotted options, such as ``--data.num_workers 2``, against the names that options had earlier.

    Raises:
        ValueError: one has an earlier name, or a YAML value that holds one.
    """
    for arg, after in pairwise([*args, ""]):
        if arg.startswith("--"):
            name, sign, value = arg[2:].partition("=")
            refuse(_nested(name.removesuffix("+"), value if sign else after), f"--{name}")


def _nested(name: str, value: str) -> dict[str, Any]:
    try:
        found = yaml.safe_load(value)
    except yaml.YAMLError:  # a text; what is wrong with it the parser will say
        found = value
    for key in reversed(name.split(".")):
        found = {key: found}
    nested: dict[str, Any] = found
    return nested
