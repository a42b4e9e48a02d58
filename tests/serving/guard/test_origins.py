"""Pages of this server, of others, and origins that can't be read."""

from __future__ import annotations

import pytest

from isthmus.serving.guard.origins import is_foreign


def test_programs_and_own_pages() -> None:
    assert not is_foreign(None, "127.0.0.1:8000")
    assert not is_foreign("http://127.0.0.1:8000", "127.0.0.1:8000")
    assert not is_foreign("http://[::1]:8000", "[::1]:8000")


@pytest.mark.parametrize("origin", ["null", "https://evil.example", "http://127.0.0.1:1", "http://[", "http://\u2100/"])
def test_others(origin: str) -> None:
    assert is_foreign(origin, "127.0.0.1:8000")
