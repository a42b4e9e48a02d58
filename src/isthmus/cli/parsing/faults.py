"""jsonargparse's message -> where in the configuration something is wrong, and what.

It nests: a key, the class there, each type of a union that was tried, and so on, with the value of every level. Only
the innermost says what is wrong. The first lines of each level have had their form since jsonargparse 4.39.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from textwrap import dedent

KEY = re.compile(r'Parser key "([^"]*)"([^:]*):\s*(.*)')
CLASS = re.compile(r"Problem with given class_path '([^']+)':\s*(.*)")
CALLABLE = re.compile(r"Type .*? expects a function or a callable class: (.*)")
NAMESPACE = re.compile(r"Namespace\(class_path='([^']+)'")
UNION = "Does not validate against any of the Union subtypes"
UNKNOWN = re.compile(
    r"(?:Group '(?P<group>[\w.]+)' does not accept option|Subcommand '\w+' does not accept option|Option) "
    r"'(?P<name>[^']+)'|unrecognized arguments: --(?P<flag>[^\s=]+)"
)
TYPE = re.compile(r"Expected an? (?:<class '(?:\w+\.)*(\w+)'>|(.+))$")
VALUE = re.compile(r"\.? (?:Got|Given) value: (.*)$")
LONGEST = 120
"""Characters of a value that is still shown."""


@dataclass(frozen=True)
class Fault:
    """What is wrong with a configuration.

    Attributes:
        place: the keys that lead to it; those of a list's or a mapping's elements aren't told.
        class_path: of the part that has the fault, if it is within one.
        said: the innermost message.
        unknown: the option that there isn't, dotted as far as it lies within groups; None where another thing is wrong.
        expected: types of which none is met.
        found: the value, where it is short and plain.
    """

    place: tuple[str, ...]
    class_path: str | None
    said: str
    unknown: str | None = None
    expected: tuple[str, ...] = ()
    found: str | None = None


def read_fault(message: str, place: tuple[str, ...] = (), class_path: str | None = None) -> Fault:
    """The innermost fault of a message."""
    head, _, rest = message.strip("\n").partition("\n")
    rest = dedent(rest)
    if key := KEY.match(head):
        return read_fault(f"{key[3]}\n{rest}" if key[3] else rest, (*place, *key[1].split(".")), class_path)
    if part := CLASS.match(head):
        return read_fault(f"{part[2]}\n{rest}" if part[2] else rest, place, part[1])
    if called := CALLABLE.match(head):
        named = NAMESPACE.search(message)
        return read_fault(f"{called[1]}\n{rest}", place, named[1] if named else class_path)
    if head.startswith(UNION):
        return _of_union(rest, place, class_path)
    return _innermost(head if not rest else f"{head}\n{rest}", place, class_path)


def _of_union(text: str, place: tuple[str, ...], class_path: str | None) -> Fault:
    """Of the types that were tried the one whose check came farthest; or all of them, if none came far."""
    _, _, errors = text.partition("Errors:\n")
    errors, _, given = errors.partition("\nGiven value type:")
    tried = [read_fault(dedent(each), place, class_path) for each in re.split(r"^\s{2}- ", errors, flags=re.M)[1:]]
    depth = max((_depth(each, place, class_path) for each in tried), default=0)
    if depth:
        return next(each for each in tried if _depth(each, place, class_path) == depth)
    found = _short(given.partition("Given value: ")[2])
    if (kinds := [kind for each in tried for kind in each.expected]) and all(each.expected for each in tried):
        return Fault(place, class_path, "", expected=tuple(kinds), found=found)
    told = [each for each in tried if not each.expected] or tried
    return replace(told[0], found=found) if told else Fault(place, class_path, text)


def _depth(fault: Fault, place: tuple[str, ...], class_path: str | None) -> int:
    return 2 * (len(fault.place) - len(place)) + (fault.class_path != class_path) + (fault.unknown is not None)


def _innermost(text: str, place: tuple[str, ...], class_path: str | None) -> Fault:
    value = VALUE.search(text.partition("\n")[0])
    said = "\n".join(VALUE.sub("", line) for line in text.splitlines())
    found = None if value is None else _short(re.split(r"\.? Got value: ", value[1])[0])
    if unknown := UNKNOWN.search(said):
        name = unknown["name"] or unknown["flag"]
        return Fault(place, class_path, said, unknown=f"{unknown['group']}.{name}" if unknown["group"] else name)
    if kind := TYPE.match(said):
        return Fault(place, class_path, said, expected=(_plain(kind[1] or kind[2]),), found=found)
    return Fault(place, class_path, said, found=found)


def _plain(kind: str) -> str:
    return {"NoneType": "null", "str": "a string", "bool": "true or false", "int": "an integer"}.get(kind, kind)


def _short(value: str) -> str | None:
    value = value.strip()
    return value if value and "\n" not in value and "Namespace(" not in value and len(value) <= LONGEST else None
