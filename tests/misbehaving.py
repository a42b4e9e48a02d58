"""What a worker of the tests does: hangs, eats memory, crashes, asks, or is fine."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from isthmus.data.errors import fault
from isthmus.serving.guard.worker import Ask, Facts


@dataclass(frozen=True)
class Misbehaving:
    """Does what the task says."""

    def __call__(self, task: Facts, ask: Ask) -> Facts:
        match task["do"]:
            case "hang":
                time.sleep(600)
            case "eat":
                return {"size": len(bytes(task["size"]))}
            case "eat slowly":
                held = []
                while True:
                    held.append(bytearray(1 << 20))
            case "crash":
                os.abort()
            case "write":
                Path(task["path"]).write_bytes(bytes(task["size"]))
            case "fail":
                raise KeyError("secret")
            case "refuse":
                raise fault("the file", "found nothing", "something", "send it")
            case "ask":
                return {"answered": ask({"number": 3})}
        return {"pid": os.getpid(), "modules": sorted(name.split(".")[0] for name in sys.modules)}
