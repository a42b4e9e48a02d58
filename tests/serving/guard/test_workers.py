"""Workers: what hangs, crashes or eats memory is killed, and the next task finds a worker."""

from __future__ import annotations

import os
import queue
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from misbehaving import Misbehaving

from isthmus.serving.guard import workers as workers_module
from isthmus.serving.guard.worker import FAILED
from isthmus.serving.guard.workers import WorkerEnded, Workers

MIB = 1 << 20


@pytest.fixture
def workers() -> Iterator[Workers]:
    workers = Workers(Misbehaving(), 1, 64 * MIB, MIB, ("isthmus.serving.guard.decoding",))
    yield workers
    workers.close()


def run(workers: Workers, do: str, seconds: float = 30.0, **more: Any) -> dict[str, Any]:
    return workers.run({"do": do, **more}, seconds, 30.0, lambda question: question["number"] + 1)[0]


@pytest.mark.parametrize(
    ("do", "seconds", "reason"),
    [("hang", 0.2, "time"), ("eat", 30.0, "memory"), ("eat slowly", 30.0, "memory"), ("crash", 30.0, "crash")],
)
def test_who_misbehaves_is_replaced(workers: Workers, do: str, seconds: float, reason: str) -> None:
    pid = run(workers, "fine")["pid"]
    assert run(workers, "fine")["pid"] == pid, "it is kept"
    with pytest.raises(WorkerEnded) as ended:
        run(workers, do, seconds, size=128 * MIB)
    assert ended.value.reason == reason
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert run(workers, "fine")["pid"] != pid
    assert run(workers, "eat", size=32 * MIB) == {"size": 32 * MIB}


def test_tasks_and_their_answers(workers: Workers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(workers, "ask") == {"answered": 4}
    assert run(workers, "refuse") == {"refused": "the file: found nothing; expected something. Fix: send it."}
    loaded = set(run(workers, "fine")["modules"])
    assert {"numpy", "av", "PIL", "soundfile"} <= loaded
    assert not {"transformers", "diffusers", "fastapi", "uvicorn", "pytorch_lightning"} & loaded, "no model, no server"
    with pytest.raises(WorkerEnded):
        run(workers, "write", path=str(tmp_path / "large"), size=2 * MIB)
    assert (tmp_path / "large").stat().st_size <= MIB, "a bomb doesn't fill the disk"
    monkeypatch.setattr(workers_module, "TASKS", 2)
    first, second, third = (run(workers, "fine")["pid"] for _ in range(3))
    assert first == second != third, "what libraries leak goes with a process"


def test_a_worker_that_is_killed_as_its_answer_comes(workers: Workers, monkeypatch: pytest.MonkeyPatch) -> None:
    run(workers, "fine")

    class LateTimer(threading.Timer):
        """Is cancelled only when it has fired."""

        def cancel(self) -> None:
            self.join()
            super().cancel()

    with monkeypatch.context() as patch:
        patch.setattr(threading, "Timer", LateTimer)
        assert "pid" in run(workers, "fine", 1.0)
    assert list(workers._idle.queue) == [None], "another takes its place"
    assert "pid" in run(workers, "fine")


def test_unexpected_errors_say_nothing_of_the_file(workers: Workers) -> None:
    with pytest.raises(WorkerEnded) as ended:
        run(workers, "fail")
    assert ended.value.reason == "crash"
    program = "import multiprocessing, misbehaving; from isthmus.serving.guard.worker import work\n"
    program += 'server, its = multiprocessing.Pipe(); server.send_bytes(b\'{"do": "fail", "seconds": 60}\')\n'
    program += "work(its, misbehaving.Misbehaving(), 1 << 28, 1 << 20)"
    own = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    ran = subprocess.run([sys.executable, "-c", program], env=own, stderr=subprocess.PIPE, text=True, check=False)
    assert (ran.returncode, ran.stderr) == (FAILED, "a worker failed: KeyError\n")


def test_a_server_that_ends_without_closing_its_workers_does_not_wait_for_them() -> None:
    program = "from misbehaving import Misbehaving; from isthmus.serving.guard.workers import Workers\n"
    program += "workers = Workers(Misbehaving(), 1, 1 << 28, 1 << 20, ())\n"
    program += "print(workers.run({'do': 'fine'}, 60, 60)[0]['pid'])"
    own = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    ran = subprocess.run([sys.executable, "-c", program], env=own, stdout=subprocess.PIPE, timeout=120, check=True)
    assert int(ran.stdout)


def test_a_worker_that_ended_while_idle_is_replaced(workers: Workers) -> None:
    pid = run(workers, "fine")["pid"]
    os.kill(pid, 9)
    while workers._idle.queue[0].process.is_alive():
        pass
    assert run(workers, "fine")["pid"] != pid


def test_a_task_waits_for_a_worker_that_is_free(workers: Workers) -> None:
    run(workers, "fine")

    def hang() -> None:
        with pytest.raises(WorkerEnded):
            run(workers, "hang", 0.5)

    other = threading.Thread(target=hang)
    other.start()
    while not workers._idle.empty():
        pass
    with pytest.raises(queue.Empty):
        workers.run({"do": "fine"}, 30.0, 0.05)
    assert "pid" in run(workers, "fine")
    other.join()
