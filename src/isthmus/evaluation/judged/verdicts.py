"""A judge's words on disk: what was asked once isn't asked, or paid for, again."""

from __future__ import annotations

import fcntl
import json
from pathlib import Path
from threading import Lock

from isthmus.paths import user_path


class Verdicts:
    """JSON lines of a question's key and the judge's words; several threads and processes may add to it.

    A line that a killed process tore is passed over, and its question is asked anew.

    Args:
        path: the file; made with its folder where it isn't there.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = user_path(path)
        self._known: dict[str, str] = {}
        self._lock = Lock()

    def read(self) -> None:
        """Takes up what the file holds now."""
        if not self.path.is_file():
            return
        for line in self.path.read_bytes().splitlines():
            try:
                record = json.loads(line)
                self._known[str(record["key"])] = str(record["said"])
            except (ValueError, LookupError, TypeError):
                continue

    def __getitem__(self, key: str) -> str | None:
        return self._known.get(key)

    def add(self, key: str, said: str, name: str, model: str) -> None:
        """Keeps a verdict, in memory and in the file.

        Args:
            key: the question's.
            said: the judge's words.
            name: the answer's id, for people who read the file.
            model: the judge's name, likewise.
        """
        line = json.dumps({"key": key, "id": name, "judge": model, "said": said}, ensure_ascii=False)
        with self._lock:
            self._known[key] = said
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("ab+") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                file.seek(0, 2)
                is_torn = file.tell() > 0 and self._last(file) != b"\n"
                file.write((b"\n" if is_torn else b"") + line.encode("utf-8", "surrogatepass") + b"\n")
                file.flush()

    @staticmethod
    def _last(file: object) -> bytes:
        file.seek(-1, 2)  # type: ignore[attr-defined]
        last: bytes = file.read(1)  # type: ignore[attr-defined]
        return last
