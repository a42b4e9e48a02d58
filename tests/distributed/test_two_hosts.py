"""Two hosts, each with an address of its own and two ranks: they learn what one process learns, cut off or not."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import torch
from benchmarks.cluster.hosts import INTERFACE, Hosts, unsupported
from distributed.two_hosts import learn
from forked import started
from tiny_world import tiny_experts

MISSING = unsupported()
pytestmark = [pytest.mark.slow, pytest.mark.skipif(MISSING is not None, reason=f"no hosts can be made: {MISSING}")]

PROGRAM = Path(__file__).with_name("two_hosts.py")


def wait_for(what: Callable[[], bool], alive: Callable[[], bool], seconds: float = 300) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert alive() and time.monotonic() < end
        time.sleep(0.05)


def test_hosts_that_are_cut_off_go_on(tmp_path: Path) -> None:
    experts = tiny_experts(tmp_path / "experts")["llama"].parent
    folder = tmp_path / "run"
    with Hosts(2, rate="200mbit") as hosts:
        namespaces = [hosts.namespace(host) for host in range(2)]
        arguments = [str(experts), str(folder), json.dumps(namespaces), json.dumps(hosts.addresses), INTERFACE]
        with started(PROGRAM, *arguments, ranks=2) as (agents, log):

            def alive() -> bool:
                return all(agent.exitcode in (None, 0) for agent in agents)

            def saved(step: int) -> Callable[[], bool]:
                return (folder / "checkpoints" / f"step={step}.ckpt").is_file

            try:
                # For a moment: TCP sends again what was lost, and nobody notices.
                wait_for(saved(2), alive)
                hosts.cut(1)
                time.sleep(2)
                hosts.mend(1)
                wait_for(saved(6), alive)
                assert not list(folder.glob("ended_*_0"))
                # For longer than a process group waits: every rank ends with the reason, and both hosts begin again.
                hosts.cut(1)
                wait_for(lambda: len(list(folder.glob("ended_*_0"))) == 4, alive)
                hosts.mend(1)
                for agent in agents:
                    agent.join(timeout=300)
                assert [agent.exitcode for agent in agents] == [0, 0]
            except AssertionError:
                print(log.read_text(errors="replace")[-6000:])
                raise
    reasons = [path.read_text(encoding="utf-8") for path in sorted(folder.glob("ended_*_0"))]
    assert any("Timed out waiting" in reason for reason in reasons[:2])
    assert any("Timed out waiting" in reason for reason in reasons[2:])
    (tmp_path / "alone").mkdir()
    learn(experts, tmp_path / "alone", "rank_0", saves=False)
    alone = torch.load(tmp_path / "alone" / "rank_0.pt", weights_only=True)
    for rank in range(4):
        found = torch.load(folder / f"rank_{rank}.pt", weights_only=True)
        assert found["resumed"] is not None and 0 < len(found["losses"]) <= 3
        assert found["losses"] == pytest.approx(alone["losses"][-len(found["losses"]) :], abs=1e-4)
        for path, own in alone["weights"].items():
            torch.testing.assert_close(found["weights"][path], own, rtol=0, atol=5e-3, msg=path)


@pytest.mark.parametrize("late", [False, True])
def test_nothing_runs_on_where_the_maker_of_hosts_is_killed(
    late: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where it is killed (late) before the process that it started has asked to die with it."""
    if late:
        for name, lines in {"setpriv": 'sleep 1\nexec {} "$@"', "cat": "{}\nsleep 4"}.items():  # cat holds the host
            (tmp_path / name).write_text("#!/bin/sh\n" + lines.format(shutil.which(name)))
            (tmp_path / name).chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    program = "from benchmarks.cluster.hosts import Hosts; import time\n"
    program += "with Hosts(1) as hosts: print(hosts.start(0, ['sleep', '600']).pid, flush=True); time.sleep(600)"
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as maker:
        assert maker.stdout is not None
        runs = psutil.Process(int(maker.stdout.readline()))
        maker.kill()
    runs.wait(30)
