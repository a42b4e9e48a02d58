"""``--help`` of every command: it names the command itself, and types and required arguments as a user reads them."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from isthmus.cli import TRAINING, main
from isthmus.cli.plain import COMMANDS, IMPORTS, Command

LARGE = [*TRAINING, "cache", "rehearse", "plan"]
"""Commands whose options are a config's."""


def plain(commands: dict[str, Command], above: str = "") -> Iterator[str]:
    """Each plain command and those below it, as they are typed."""
    for name, command in commands.items():
        yield f"{above}{name}"
        yield from plain(dict(command.below), f"{above}{name} ")


ALL = ["", *LARGE, *plain(COMMANDS), *(f"import {name}" for name in IMPORTS)]


@pytest.mark.parametrize("command", ALL)
def test_help_is_written_for_users(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["isthmus"])
    with pytest.raises(SystemExit) as end:
        main([*command.split(), "--help"])
    said = " ".join(capsys.readouterr().out.split())
    assert end.value.code == 0
    assert said.startswith(f"usage: isthmus {command}".strip())
    assert "[options]" not in said
    raw = re.findall(r"<(?:function|class|bound method|built-in)[^>]*>|0x[0-9a-f]{6,}", said)
    assert not raw
    usage, _, listed = said.partition(" positional arguments: ")
    # What may be left out: [name], [name ...]; one or more are `name [name ...]`.
    for name in re.findall(r"(?:^|[^\w ]) \[(\w+)(?: \.\.\.)?\](?= |$)", usage):
        about = re.search(rf"(?:^| ){name} (.*?\))", listed)
        assert about is None or "required" not in about[1], about[0]
