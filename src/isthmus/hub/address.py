"""Addresses of checkpoints on the hub, the commits that they stand for, and where these lie in the hub's cache."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

COMMIT = re.compile(r"[0-9a-f]{40}")
_BEGIN = re.compile(r"hf:/{1,2}(?=[^/])")
"""Of an address; a :class:`~pathlib.Path` of one has lost a slash."""
FORM = "hf://org/name, hf://org/name@revision, or either with /path behind it"


@dataclass(frozen=True)
class Address:
    """A repository of a model, a revision of it, and perhaps a folder or file within.

    Attributes:
        repository: ``org/name``.
        revision: a branch, tag or commit; the hub's ``main`` where none is named.
        path: within; empty for the whole.
    """

    repository: str
    revision: str
    path: str = ""

    def __str__(self) -> str:
        return f"hf://{self.repository}@{self.revision.replace('/', '%2F')}" + (f"/{self.path}" if self.path else "")

    @property
    def cache_folder(self) -> Path:
        """The repository's folder in the hub's cache."""
        from huggingface_hub import constants

        return Path(constants.HF_HUB_CACHE, f"models--{self.repository.replace('/', '--')}")

    @property
    def snapshot(self) -> Path:
        """The folder of the commit that the address names, whether it is there or not."""
        assert COMMIT.fullmatch(self.revision)
        return self.cache_folder / "snapshots" / self.revision

    def resolved(self) -> Address:
        """The same with the commit that its revision stands for; within a process always the same one.

        Raises:
            ValueError: there is no such repository or revision, or the hub can't be reached and the cache doesn't know.
        """
        return replace(self, revision=_commit(self.repository, self.revision))


def is_address(named: Any) -> bool:
    """Whether a checkpoint is named by an address on the hub."""
    return isinstance(named, str | Path) and _BEGIN.match(str(named)) is not None


def parse_address(named: str | Path) -> Address:
    """The address that a user has written.

    Raises:
        ValueError: it isn't one of a model.
    """
    from huggingface_hub import constants, parse_hf_uri
    from huggingface_hub.errors import HfUriError

    try:
        found = parse_hf_uri(_BEGIN.sub("hf://", str(named), count=1).rstrip("/"))
    except HfUriError as error:
        raise ValueError(f"{named}: found no address of a model ({error}); expected {FORM}. Fix: correct it.") from None
    if found.type != "model":
        raise ValueError(f"{named}: found the address of a {found.type}; expected a model's: {FORM}. Fix: correct it.")
    if ".." in found.path_in_repo.split("/"):
        raise ValueError(f"{named}: found .. in the path; expected one within the repository. Fix: correct it.")
    return Address(found.id, found.revision or constants.DEFAULT_REVISION, found.path_in_repo)


def address_of(path: Path) -> Address | None:
    """The address that a path in the hub's cache was fetched from; None for any other path."""
    for at, part in enumerate(path.parts[:-2]):
        folder, commit = path.parts[at + 1 : at + 3]
        if part.startswith("models--") and folder == "snapshots" and COMMIT.fullmatch(commit):
            repository = part.removeprefix("models--").replace("--", "/")
            return Address(repository, commit, "/".join(path.parts[at + 3 :]))
    return None


def pinned(value: Any) -> Any:
    """A copy of plain lists and dictionaries in which every address names a commit.

    Raises:
        ValueError: see :meth:`Address.resolved`.
    """
    match value:
        case str() if is_address(value):
            return str(parse_address(value).resolved())
        case Path() if is_address(value):
            return pinned(str(value))
        case dict():
            return {key: pinned(each) for key, each in value.items()}
        case list() | tuple():
            return type(value)(map(pinned, value))
        case _:
            return value


@cache
def _commit(repository: str, revision: str) -> str:
    from huggingface_hub import HfApi

    with told(f"hf://{repository}@{revision}"):
        return HfApi().resolve_revision(repository, revision=revision).resolved


@contextmanager
def pushing(repository: str) -> Iterator[None]:
    """Words what the hub's library raises in a block that writes to a repository.

    Raises:
        ValueError: the hub refuses, or can't be reached.
    """
    from huggingface_hub import constants, errors, is_offline_mode

    unreachable: type[Exception] = errors.HTTPError  # type: ignore[attr-defined]  # see told
    try:
        yield
    except errors.HFValidationError as error:
        raise ValueError(f"{repository}: {error}. Fix: correct the name.") from error
    except (errors.OfflineModeIsEnabled, errors.HfHubHTTPError, unreachable, OSError) as error:
        status = getattr(getattr(error, "response", None), "status_code", None)
        fix = "look to the network, and run this again"
        if is_offline_mode():
            fix = "unset HF_HUB_OFFLINE"
        elif status in (401, 403):
            fix = f"log in by `hf auth login` with a token that may write to {repository}"
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise ValueError(f"{repository}: {constants.ENDPOINT} took nothing ({reason}). Fix: {fix}.") from error


@contextmanager
def told(what: str) -> Iterator[None]:
    """Words what the hub's library raises in the block.

    Raises:
        ValueError: the block has failed at the hub or on the way there.
    """
    from huggingface_hub import constants, errors, is_offline_mode

    # The base of what the library's HTTP client raises, whichever client that is.
    unreachable: type[Exception] = errors.HTTPError  # type: ignore[attr-defined]  # not in its __all__
    try:
        yield
    except errors.GatedRepoError as error:
        raise ValueError(
            f"{what}: found a repository whose terms this user hasn't accepted; expected access. Fix: accept them at "
            f"{constants.ENDPOINT}, and log in by `hf auth login`."
        ) from error
    except errors.RevisionNotFoundError as error:
        raise ValueError(f"{what}: found no such revision at {constants.ENDPOINT}. Fix: correct it.") from error
    except errors.RepositoryNotFoundError as error:
        raise ValueError(
            f"{what}: found no such repository at {constants.ENDPOINT}, or one that is private; expected a model's. "
            "Fix: correct the name, or log in by `hf auth login`."
        ) from error
    except (errors.OfflineModeIsEnabled, errors.RevisionResolutionError, unreachable, OSError) as error:
        if is_offline_mode():
            reason, fix = "HF_HUB_OFFLINE is set", "unset HF_HUB_OFFLINE once to fetch it"
        else:
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            fix = "look to the network and run this again; with HF_HUB_OFFLINE=1 what was fetched before is enough"
        raise ValueError(
            f"{what}: it isn't whole in the hub's cache, and it can't be fetched ({reason}); expected it there, or "
            f"{constants.ENDPOINT} in reach. Fix: {fix}."
        ) from error
