"""Tools that a conversation offers, and calls of them, as the chat templates of ``transformers`` take them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from isthmus.data.errors import fault


def parse_tools(raw: Any, where: str) -> tuple[Mapping[str, Any], ...]:
    """Descriptions of functions, as a list or as JSON.

    Raises:
        DataError: it is something else.
    """
    listed = _plain(raw, where)
    if not isinstance(listed, list) or not all(isinstance(tool, Mapping) for tool in listed):
        raise fault(
            where, f"found {str(raw)[:40]!r}", "a list of functions' descriptions", "correct it, or leave it out"
        )
    return tuple(listed)


def parse_calls(raw: Any, where: str) -> tuple[dict[str, Any], ...]:
    """Calls, as objects of ``name`` and ``arguments``, bare or under ``function``; a single one, a list, or JSON.

    Returns:
        Each as ``{"type": "function", "function": {"name": ..., "arguments": {...}}}``.

    Raises:
        DataError: one has no name, or arguments that aren't an object.
    """
    listed = _plain(raw, where)
    calls = []
    for i, call in enumerate(listed if isinstance(listed, list) else [listed]):
        function = call.get("function", call) if isinstance(call, Mapping) else None
        if not isinstance(function, Mapping) or not isinstance(function.get("name"), str) or not function["name"]:
            raise fault(f"{where}[{i}]", f"found {str(call)[:40]!r}", "a function's name and arguments", "name it")
        arguments = _plain(function.get("arguments") or {}, f"{where}[{i}].arguments")
        if not isinstance(arguments, Mapping):
            raise fault(f"{where}[{i}].arguments", f"found {str(arguments)[:40]!r}", "an object", "name each argument")
        calls.append({"type": "function", "function": {"name": function["name"], "arguments": dict(arguments)}})
    return tuple(calls)


def _plain(raw: Any, where: str) -> Any:
    if not isinstance(raw, str):
        return raw
    try:
        return json.loads(raw)
    except ValueError as error:
        raise fault(where, f"found {raw[:40]!r}, which is no JSON ({error})", "JSON", "correct it") from error


def names_of(tools: Sequence[Mapping[str, Any]]) -> list[str]:
    """The names of the functions that descriptions are of, as far as they have one."""
    functions = [tool.get("function", tool) for tool in tools]
    return [function["name"] for function in functions if isinstance(function, Mapping) and function.get("name")]


def marked(turn: Mapping[str, Any], mark: str) -> dict[str, Any]:
    """A turn as templates take it whose words, or whose calls, are a mark instead."""
    if "tool_calls" not in turn:
        return {"role": turn["role"], "content": mark}
    return {"role": turn["role"], "content": "", "tool_calls": list(parse_calls({"name": mark}, mark))}
