"""From which page a browser sends a request."""

from __future__ import annotations

from urllib.parse import urlsplit


def is_foreign(origin: str | None, host: str | None) -> bool:
    """Whether a request comes from a page of another site.

    Args:
        origin: the header ``Origin``; browsers send it with whatever a page sends, other programs needn't.
        host: the header ``Host``: this server's name.
    """
    if not origin:
        return False
    try:
        return urlsplit(origin).netloc != host
    except ValueError:  # it can't be read, so it's nobody's
        return True
