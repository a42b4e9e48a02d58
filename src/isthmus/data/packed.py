"""Files packed by gzip or zstd, told by how they begin: unpacked once, since no place in them can be read alone."""

from __future__ import annotations

import gzip
import zlib
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any

from isthmus.data.derived import derived_file

GZIP = b"\x1f\x8b"
ZSTD = b"\x28\xb5\x2f\xfd"

_CHUNK = 1 << 20
_RATIO, _LEAST = 300, 1 << 30  # text packs to a tenth; gzip to a thousandth at most


def unpacked(path: Path) -> Path:
    """The file itself, or, where it is packed, a copy that isn't (:mod:`isthmus.data.derived`).

    Raises:
        ValueError: it is cut off or damaged, unfolds to more than 300 times its size, or zstd's reader isn't installed.
    """
    with path.open("rb") as file:
        head = file.read(len(ZSTD))
    if not head.startswith(GZIP) and head != ZSTD:
        return path
    if head == ZSTD and find_spec("pyarrow") is None:
        raise ValueError(
            f"{path}: found zstd and no pyarrow, which reads it; expected both. Fix: pip install 'isthmus[datasets]'."
        )
    return derived_file(path, "unpacked", lambda target: _unpack(path, target, head == ZSTD))


def _unpack(path: Path, target: Path, is_zstd: bool) -> None:
    most = max(_LEAST, _RATIO * path.stat().st_size)
    with target.open("wb") as out:
        try:
            with _zstd(path) if is_zstd else gzip.open(path) as packed:
                while data := packed.read(_CHUNK):
                    out.write(data)
                    if out.tell() > most:
                        raise ValueError(f"it unfolds to more than {most} bytes")
        except (gzip.BadGzipFile, EOFError, zlib.error, ValueError) as error:
            raise _damaged(path, error) from error
        except OSError as error:
            if not is_zstd or error.errno is not None:
                raise  # of the disk
            raise _damaged(path, error) from error


def _zstd(path: Path) -> IO[Any]:
    import pyarrow

    stream: IO[Any] = pyarrow.CompressedInputStream(pyarrow.OSFile(str(path)), "zstd")
    return stream


def _damaged(path: Path, error: Exception) -> ValueError:
    return ValueError(f"{path}: found no whole packed file ({error}); expected gzip or zstd. Fix: copy it anew.")
