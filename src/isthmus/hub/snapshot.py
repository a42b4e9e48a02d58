"""A checkpoint on the hub as a folder or file of this machine. Asking for it is the consent to fetch it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from isthmus.hub.address import Address
from isthmus.hub.download import fetch_file
from isthmus.hub.listing import StoredFile, is_listed, list_repository
from isthmus.hub.selection import chosen, is_weights, refusal

log = logging.getLogger(__name__)

_SETTINGS_ALONE = ContextVar("settings_alone", default=False)


@contextmanager
def settings_alone() -> Iterator[None]:
    """Within the block no weights are fetched: settings and tokenizers alone."""
    token = _SETTINGS_ALONE.set(True)
    try:
        yield
    finally:
        _SETTINGS_ALONE.reset(token)


def fetched(address: Address) -> Path:
    """Where the checkpoint lies in the hub's cache, fetched as far as it isn't there.

    The cache is that of ``huggingface_hub``, under ``HF_HOME``; ``HF_ENDPOINT`` names another hub, and with
    ``HF_HUB_OFFLINE`` only the cache is looked at.

    Raises:
        ValueError: there is no such checkpoint, none in safetensors, or it can't be fetched whole.
    """
    address = address.resolved()
    wanted = wanted_files(address)
    missing = {name: own for name, own in wanted.items() if not (address.snapshot / name).exists()}
    if missing:
        size = sum(own.size for own in missing.values())
        log.info("%s: fetching %d files, %.1f MB", address, len(missing), size / 1e6)
    for name, own in sorted(missing.items(), key=lambda each: each[1].size):  # what is wrong shows early
        fetch_file(address, name, own)
    return address.snapshot / address.path


def wanted_files(address: Address) -> dict[str, StoredFile]:
    """The files of a resolved address's checkpoint, as the hub lists them.

    Where only the cache is known, which another program has filled, those that are there.

    Raises:
        ValueError: no weights are among them, or the hub is needed and can't be reached.
    """
    from huggingface_hub import is_offline_mode

    if is_offline_mode() and not is_listed(address) and address.snapshot.is_dir():
        cached = [file for file in address.snapshot.rglob("*") if file.is_file()]
        files = {own.relative_to(address.snapshot).as_posix(): StoredFile(own.stat().st_size, "") for own in cached}
    else:
        files = list_repository(address).files
    if (why := refusal(files, address.path)) is not None:
        raise ValueError(f"{address}: {why}")
    named = chosen(files, address.path)
    # A .gguf file holds its settings together with its weights.
    settings = [name for name in named if not is_weights(name)]
    if _SETTINGS_ALONE.get() and (settings or not (address.snapshot / named[0]).exists()):
        if not settings:
            raise ValueError(
                f"{address}: found {named[0]} alone, whose settings can't be had without its weights; expected a "
                f"folder. Fix: fetch it first: isthmus experts --fetch {address}"
            )
        named = settings
    return {name: files[name] for name in named}
