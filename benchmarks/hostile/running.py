"""Runs the real server and sends it hostile requests; after each hundred a good one must be answered as at first."""

from __future__ import annotations

import base64
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

from benchmarks.hostile.cases import CHAT, FETCHED, Cases
from benchmarks.hostile.exchange import Outcome, exchanged
from benchmarks.hostile.media import bombs, huge, intact
from benchmarks.hostile.watching import Held, Watched
from isthmus.serving.limits import ServingLimits

NAME = "hostile"
WORD = "xyzzy"
CLIENTS = 8
"""Connections at once."""
HUNDRED = 100
PROCESSES = 2 * ServingLimits().decoders + 2
"""Below the server at rest: those that decode and that fetch, the one that they are forked from, and Python's own."""


@dataclass
class Result:
    """Of a run.

    Attributes:
        outcomes: of all cases.
        faults: what went wrong, in words; empty if nothing.
        held: by the server at rest after each hundred, the first before any.
        seconds: of the good request after each hundred.
    """

    outcomes: list[Outcome] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    held: list[Held] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    def rows(self) -> list[dict[str, Any]]:
        """By kind of case: how many, the statuses, and the longest seconds."""
        rows = []
        for kind in sorted({outcome.case.kind for outcome in self.outcomes}):
            own = [outcome for outcome in self.outcomes if outcome.case.kind == kind]
            counts = Counter(str(status) for each in own for status in each.statuses or ("closed",))
            found = ", ".join(f"{count} x {status}" for status, count in sorted(counts.items()))
            rows.append({"kind": kind, "requests": len(own), "answers": found, "s": max(each.seconds for each in own)})
        return rows


def run(model: Path, requests: int, seed: int = 0, options: Sequence[str] = ()) -> Result:
    """Sends so many requests to a server of a model.

    Args:
        model: a bundle's folder.
        requests: how many.
        seed: of chance.
        options: more of the server's.
    """
    result = Result()
    with tempfile.TemporaryDirectory() as folder:
        temporary = Path(folder) / "of_the_server"
        temporary.mkdir()
        files = intact(Path(folder))
        good = _good(files[0][2])
        with ExitStack() as open_ones:
            clients = open_ones.enter_context(ThreadPoolExecutor(CLIENTS))
            heavy = clients.submit(lambda: huge() + bombs())  # while the server starts
            server = _server(model, temporary, Path(folder) / "log", options, result.faults)
            port, watched = open_ones.enter_context(server)
            first = _answer(port, good, result)
            _answer(port, good, result)
            cases = Cases(NAME, files, heavy.result(), seed)(requests)
            rest = watched.at_rest(lambda held: held.processes == PROCESSES)
            result.held.append(rest)
            for start in range(0, requests, HUNDRED):
                some = [next(cases) for _ in range(min(HUNDRED, requests - start))]
                outcomes = list(clients.map(lambda case: exchanged(port, case), some))
                result.outcomes += outcomes
                result.faults += [f"{each.fault}: {each.case.kind} {each.case.says}" for each in outcomes if each.fault]
                if _answer(port, good, result) != first:
                    result.faults.append(f"after {start + HUNDRED} requests the good one got another answer")
                held = watched.at_rest(lambda held: _is_as(held, rest))
                if not _is_as(held, rest):
                    result.faults.append(f"after {start + HUNDRED} requests it holds {held} instead of {rest}")
                result.held.append(held)
                _say(len(result.outcomes), requests, held)
    return result


def _say(done: int, of: int, held: Held) -> None:
    words = ", ".join(f"{name} {value:.0f}" for name, value in asdict(held).items())
    print(f"{done} of {of}: {words}", file=sys.stderr, flush=True)


def _is_as(held: Held, rest: Held) -> bool:
    """Whether nothing is left of requests; a server opens a few descriptors and threads as it needs them first."""
    return held.files == 0 and held.processes <= rest.processes and held.descriptors <= rest.descriptors + 8


@contextmanager
def _server(
    model: Path, temporary: Path, log: Path, options: Sequence[str], faults: list[str]
) -> Iterator[tuple[int, Watched]]:
    """A server's port and its process; at the end it must stop by itself, and leave nothing."""
    program = "from isthmus.cli import main; main()"
    given = ["--model", str(model), "--port", "0", "--name", NAME, "--device", "cpu", "--fetch", ",".join(FETCHED)]
    command = [sys.executable, "-c", program, "serve", *given, *options]
    with (
        log.open("wb") as file,
        subprocess.Popen(command, stderr=file, env=os.environ | {"TMPDIR": str(temporary)}) as process,
    ):
        try:
            yield _port(process, log), Watched(process.pid, temporary)
            process.send_signal(signal.SIGTERM)
            if process.wait(60) != 0:
                faults.append(f"it ended with code {process.returncode}")
            left = [str(path.relative_to(temporary)) for path in temporary.rglob("*")]
            if left := [name for name in left if "isthmus" in name]:
                faults.append(f"it left {left[:5]}")
        finally:
            process.kill()
    said = log.read_text(encoding="utf-8", errors="replace")
    if "Traceback" in said:
        faults.append("its log has a traceback: " + said[said.index("Traceback") :][:3000])
    if WORD in said or "etc/passwd" in said:
        faults.append("its log has contents of requests")


def _port(process: subprocess.Popen[bytes], log: Path) -> int:
    for _ in range(2400):
        if found := re.search(rb"http://127\.0\.0\.1:(\d+)", log.read_bytes()):
            return int(found[1])
        if process.poll() is not None:
            break
        time.sleep(0.1)
    raise RuntimeError(log.read_text(encoding="utf-8", errors="replace")[-2000:])


def _good(png: bytes) -> bytes:
    url = f"data:image/png;base64,{base64.b64encode(png).decode()}"
    content = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": f"{WORD} what is it"}]
    body = {"model": NAME, "max_tokens": 8, "temperature": 1.0, "seed": 5, "modalities": ["text"]}
    return json.dumps(body | {"messages": [{"role": "user", "content": content}]}).encode()


def _answer(port: int, body: bytes, result: Result) -> Any:
    """The text of the good request's answer."""
    begun = time.monotonic()
    connection = HTTPConnection("127.0.0.1", port, timeout=120)
    try:
        connection.request("POST", CHAT, body, {"Content-Type": "application/json", "Connection": "close"})
        response = connection.getresponse()
        found = json.load(response)
    except (OSError, HTTPException, ValueError) as error:
        result.faults.append(f"a good request: {type(error).__name__} {error}")
        return None
    finally:
        connection.close()
    if response.status != 200:
        result.faults.append(f"a good request: {response.status} {found}")
        return None
    found = found["choices"][0]["message"]["content"]
    result.seconds.append(time.monotonic() - begun)
    return found
