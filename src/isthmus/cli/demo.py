"""``isthmus demo``: the embedded model in a browser; where nobody has trained one yet, it is trained first."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
import webbrowser
from importlib.util import find_spec
from pathlib import Path
from urllib.request import urlopen

from jsonargparse import ActionYesNo, Namespace

from isthmus.cli import serve
from isthmus.cli.parsing.parser import Parser
from isthmus.paths import SHIPPED, shipped_path, user_path

RUN = Path("runs/curriculum")
MODEL = RUN / "instruction_tuning"
"""What curriculum.yaml, and so `make quickstart`, leaves."""
LAST = RUN / "checkpoints/last.ckpt"
TRAIN = "isthmus fit -c curriculum.yaml"
START_UP = 120
"""Seconds in which the server should be ready; a browser isn't opened later."""


def parser() -> Parser:
    """Of the command's options."""
    own = Parser(description="Opens a trained model in a browser; `isthmus serve` has all options of the server.")
    own.add_argument("--model", type=user_path, help=f"a trained stage's folder; {MODEL} where not given")
    own.add_argument("--port", type=int, default=8000, help="of this machine's own address; 0 takes a free one")
    own.add_argument("--yes", action="store_true", help="train without asking where no model is there")
    own.add_argument("--browser", action=ActionYesNo, default=True, help="whether a browser is opened")
    return own


def run(options: Namespace) -> None:
    """Serves the model until a signal ends it, and trains it before where it isn't there.

    Raises:
        ValueError: something isn't installed, or there is no model and nobody who could be asked.
        SystemExit: the training wasn't wanted (0), or has ended without a model, with its exit code.
    """
    if missing := [name for name in serve.EXTRA if find_spec(name) is None]:
        raise ValueError(f"demo: found no {missing[0]}; expected the server. Fix: pip install 'isthmus[demo]'.")
    if options.model is None and not (MODEL / "manifest.json").is_file():
        _train(options.yes)
    port = _free(options.port)
    if options.browser and _has_screen():
        threading.Thread(target=_open, args=(f"http://127.0.0.1:{port}",), daemon=True).start()
    print(f"demo: http://127.0.0.1:{port} (Ctrl-C ends it)", file=sys.stderr)
    serve.run(serve.parser().parse_args(["--model", str(options.model or MODEL), "--port", str(port)]))


def _free(port: int) -> int:
    """The port, if no other program has it: a browser would open that one's page; for 0 one that is free.

    Raises:
        ValueError: it is taken.
    """
    with socket.socket() as tried:
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # one whose server has just ended is free
        try:
            tried.bind(("127.0.0.1", port))
        except OSError as error:
            raise ValueError(f"--port {port}: found it taken ({error.strerror}). Fix: choose another, or 0.") from error
        return int(tried.getsockname()[1])


def _train(yes: bool) -> None:
    """Trains the embedded curriculum in a process of its own, or goes on with what was broken off."""
    if not shipped_path(SHIPPED[0]).exists():
        raise ValueError("demo: found no embedded experts. Fix: pip install 'isthmus[demo]', or name a --model.")
    goes_on = LAST.is_file()
    command = TRAIN + (" --ckpt_path last" if goes_on else "")
    if not yes:
        if not sys.stdin.isatty():
            raise ValueError(
                f"demo: found no {MODEL}, and nobody to ask; expected a trained model, since none is shipped. Fix: "
                f"{command} (some seven minutes on two CPU cores), isthmus demo --yes, or name a --model."
            )
        begun = "a broken-off training" if goes_on else "no trained model"
        print(
            f"Found {begun} in {RUN}. The package ships experts, but no trained bridges between them: training these "
            "takes some seven minutes on two CPU cores."
        )
        if input(f"Run `{command}` now? [Y/n] ").strip().lower() not in ("", "y", "yes"):
            raise SystemExit(0)
    program = "from isthmus.cli import train; train()"
    with subprocess.Popen([sys.executable, "-c", program, *command.split()[1:]]) as process:
        while process.poll() is None:
            try:
                process.wait()
            except KeyboardInterrupt:  # it has reached the training too, which keeps its state and ends
                continue
    if process.returncode:
        raise SystemExit(process.returncode)


def _has_screen() -> bool:
    """Whether a browser would be a window, and not a program of text in this very terminal."""
    return sys.platform in ("darwin", "win32") or any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))


def _open(address: str) -> None:
    """Opens a browser as soon as the server is ready."""
    end = time.monotonic() + START_UP
    while time.monotonic() < end:
        try:
            urlopen(f"{address}/ready", timeout=5).close()  # noqa: S310  # of this machine's own address
        except OSError:
            time.sleep(0.3)
        else:
            webbrowser.open(address)
            return
