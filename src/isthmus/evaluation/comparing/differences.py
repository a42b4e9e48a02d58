"""What differs between two configurations, or between the protocols of two figures."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from isthmus.evaluation.comparing.stored import StoredFigure

ABSENT = "(none)"
OF_ANSWERS = ("sampling", "generators")
"""What a protocol says of how answers were made. Of answers that others have brought it says neither."""


def differences(first: Any, second: Any, but: Collection[str] = (), key: str = "") -> Iterator[tuple[str, list[Any]]]:
    """Dotted key -> the two values, of all that differs; what one side lacks is one key, whatever is below it.

    Args:
        first: plain data.
        second: likewise.
        but: dotted keys that are passed over.
        key: of these two.
    """
    one, other = _fields(first), _fields(second)
    if key in but or first == second:
        return
    if one is None or other is None:
        yield key, [_brief(first), _brief(second)]
        return
    for name in dict.fromkeys([*one, *other]):
        below = f"{key}.{name}" if key else name
        yield from differences(one.get(name, ABSENT), other.get(name, ABSENT), but, below)


def protocol_differences(first: StoredFigure, second: StoredFigure) -> dict[str, list[Any]]:
    """What differs in how two figures were measured; of files without a protocol only their numbers of samples.

    How answers were made isn't compared where one side doesn't say it.
    """
    if first.protocol is None or second.protocol is None:
        return {} if first.n == second.n else {"n": [first.n, second.n]}
    but = OF_ANSWERS if is_brought(first) != is_brought(second) else ()
    return dict(differences(first.protocol, second.protocol, but))


def is_brought(figure: StoredFigure) -> bool:
    """Whether its file says how it was measured, but not how the answers were made."""
    return figure.protocol is not None and not any(name in figure.protocol for name in OF_ANSWERS)


def flat(content: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted key -> value, of all that is in plain data."""
    for key, value in content.items():
        if isinstance(value, Mapping) and value:
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _fields(value: Any) -> dict[str, Any] | None:
    if isinstance(value, list | tuple):
        value = dict(enumerate(value))
    return {str(name): each for name, each in value.items()} if isinstance(value, Mapping) else None


def _brief(value: Any) -> Any:
    if isinstance(value, Mapping):
        return value.get("class_path", f"({len(value)} settings)" if value else value)
    return value
