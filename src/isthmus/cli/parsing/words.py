"""A fault of a configuration -> the message that a user reads: file and key, what was found, what is likely meant."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ArgumentParser

from isthmus.cli.parsing.faults import Fault
from isthmus.earlier.options import present_names

LISTED = 12
"""So many options of a part are listed where none resembles the one that there isn't."""
META = {"help", "config", "print_config", "print_shtab", "subcommand"}
SPECIFICATION = ("class_path", "init_args")

REQUIRED = re.compile(r"the following arguments are required: (.+)")
CHOICE = re.compile(r"argument (\S+): invalid choice: '([^']*)' \(choose from (.*)\)")
ABSENT = re.compile(r"module '([\w.]+)' has no attribute '(\w+)'")


def worded(fault: Fault, flags: Mapping[str, str], files: Sequence[str] = ()) -> str:
    """The message of a fault.

    Args:
        fault: what is wrong.
        flags: the parser's options, as they are given on its command line, by their dotted names.
        files: configs that were read; of those that have the key the last one is named.
    """
    if fault.unknown is not None:
        keys = (*fault.place, *fault.unknown.split("."))
        is_flag = "unrecognized" in fault.said
        at = f"--{fault.unknown}: " if is_flag else _at(keys, files, flags)
        owner = "" if fault.class_path is None else f" of {fault.class_path.rpartition('.')[2]}"
        options = list(flags) if fault.class_path is None else options_of(fault.class_path)
        advice = _advice(fault.unknown, options, flags if is_flag else {}, fault.class_path or "")
        return f"{at}there is no such option{owner}. {advice}"
    at = _at(fault.place, files, flags, fault.found)
    if fault.expected:
        found = "" if fault.found is None else f"found {fault.found!r}; "
        return f"{at}{found}expected {' or '.join(dict.fromkeys(fault.expected))}"
    if required := REQUIRED.match(fault.said):
        names = required[1].split(", ")
        shown = [flags.get(name.rpartition(".")[2] if name not in flags else name, name) for name in names]
        return _misspelt(names, fault.place, files) or f"{at}found no {', '.join(shown)}, which must be given"
    if absent := ABSENT.match(fault.said):
        module, name = absent.groups()
        near = likeliest(name, [each for each in dir(import_module(module)) if not each.startswith("_")])
        said = f"found {module}.{name}; expected a class that there is. "
        return f"{at}{said}{f'Did you mean {module}.{near}?' if near else 'Fix: correct the name.'}"
    if choice := CHOICE.match(fault.said):
        option, found, among = choice[1], choice[2], choice[3].replace("'", "").split(", ")
        near = likeliest(found, among)
        what = "" if option == "subcommand" else f"{option}: "
        return f"{what}found '{found}'; expected one of {', '.join(among)}." + (
            f" Did you mean {near}?" if near else ""
        )
    return f"{at}{fault.said}"


def _advice(name: str, options: Sequence[str], flags: Mapping[str, str], class_path: str) -> str:
    last = name.rpartition(".")[2]
    if last == "class_path":
        return f"Fix: beside it only {SPECIFICATION[1]} may stand; correct the other key."
    if new := present_names(class_path).get(last):
        return f"It is called {new} now."
    if near := likeliest(name, options) or likeliest(name.partition(".")[0], SPECIFICATION):
        return f"Did you mean {flags.get(near, near)}?"
    if 0 < len(options) <= LISTED:
        return f"Fix: take it out, or rename it to one of {', '.join(flags.get(each, each) for each in options)}."
    return "Fix: take it out; --help lists all."


def _misspelt(required: Sequence[str], place: Sequence[str], files: Sequence[str]) -> str | None:
    """What a config has in the place of something that is required, where their names are alike."""
    for keys in ((*place, *name.split(".")) for name in required):
        for file in reversed(files):
            for path, _ in _paths(file):
                for above, key in zip(("", *keys), keys, strict=False):
                    fits = len(path) == 1 or path[-2] in (above, "init_args")
                    if fits and path[-1] not in keys and get_close_matches(path[-1], [key]):
                        return f"{file}: {'.'.join(path)}: there is no such option. Did you mean {key}?"
    return None


def likeliest(name: str, options: Sequence[str]) -> str | None:
    """The option that a name resembles most, by its whole path or by its last key."""
    if near := get_close_matches(name, options, 1, 0.75):
        return near[0]
    by_key = {option.rpartition(".")[2]: option for option in reversed(options)}
    near = get_close_matches(name.rpartition(".")[2], by_key, 1)
    return by_key[near[0]] if near else None


def options_of(class_path: str) -> list[str]:
    """What a class can be configured by, dotted where an argument is a group itself; none if that can't be told."""
    module, _, name = class_path.rpartition(".")
    parser = ArgumentParser(exit_on_error=False)
    with suppress(ImportError, AttributeError, ValueError):
        parser.add_class_arguments(getattr(import_module(module), name), fail_untyped=False)
    return list(flags_of(parser))


def flags_of(parser: ArgumentParser) -> dict[str, str]:
    """A parser's options by their dotted names, as they are given on its command line."""
    own = [each for each in parser._actions if each.dest not in META and not each.dest.endswith(".help")]
    return {each.dest: (each.option_strings or [each.dest.upper()])[0] for each in own}


def _at(keys: Sequence[str], files: Sequence[str], flags: Mapping[str, str], found: str | None = None) -> str:
    """The file and the whole path of keys, if a config has it; else the option, or the keys that are known."""
    for file in reversed(files):
        for path, value in _paths(file):
            # Between the keys may stand init_args, names of a mapping and places in a list.
            rest = iter(path)
            leads = bool(keys) and path[-1] == keys[-1] and all(key in rest for key in keys)
            if leads and found in (None, str(value)):
                return f"{file}: {'.'.join(path)}: "
    name = ".".join(keys)
    return f"{flags.get(name, name)}: " if name else ""


def _paths(file: str) -> list[tuple[tuple[str, ...], Any]]:
    return list(_within(yaml.safe_load(Path(file).read_text(encoding="utf-8"))))


def _within(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    if path:
        yield path, value
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in pairs:
        yield from _within(each, (*path, str(key)))
