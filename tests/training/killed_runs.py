"""Kills a small run at random moments, on a nearly full disk, and lets it go on until it has learnt all of its stages.

python tests/training/killed_runs.py --kills 100 [--seed 0] [--folder DIR]

Each run is ``train.py fit`` with a checkpoint after every step, in a process forked from this one, which has loaded the
libraries already. SIGKILL comes at a moment drawn evenly over a run's length. In every third start the disk is filled
so far that no checkpoint finds room: the run must end with exit code 2 and say so. After each end ``last.ckpt`` must be
whole, ``--ckpt_path last`` must go on from it, and the weights of every stage must be those of a run that nothing broke
off, bit for bit. The disk is a tmpfs with room for a run and one checkpoint more, where namespaces can be had.
"""

from __future__ import annotations

import argparse
import importlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import yaml
from tiny_world import tiny_clone

from isthmus.training.checkpoints.found import fault_of

CONFIG = {
    "trainer": {
        "accelerator": "cpu",
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "logger": False,
        "callbacks": [
            {
                "class_path": "pytorch_lightning.callbacks.ModelCheckpoint",
                "init_args": {
                    "save_last": True,
                    "save_top_k": 0,
                    "every_n_train_steps": 1,
                    "enable_version_counter": False,
                },
            }
        ],
    },
    "data": {"batch_size": 4, "num_workers": 0, "validation": {}},
    "model": {"backbone": {"init_args": {"max_length": 900}}},
    "training": {"run": ["encoder_alignment", "decoder_alignment", "instruction_tuning"]},
}
STEPS = {"encoder_alignment": 8, "decoder_alignment": 4, "instruction_tuning": 4}
INSIDE = "ISTHMUS_SMALL_DISK"
MARGIN = 300_000
"""Bytes of the small disk beyond what a run and one more checkpoint take."""


def started(folder: Path, log: Path, *more: str) -> int:
    """Starts a run in a forked process; its id."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        for standard in (1, 2):
            os.dup2(descriptor, standard)
        from isthmus import cli

        steps = [f"--training.stages.{name}.steps={count}" for name, count in STEPS.items()]
        sys.argv = ["train.py"]
        cli.train(["fit", "-c", "killed.yaml", f"--training.folder={folder}", *steps, *more])
        code = 0
        Path("modules.txt").write_text("\n".join(sys.modules))
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    finally:
        sys.stderr.flush()
        os._exit(code)


def ended(child: int) -> int:
    """Waits for a run; its exit code, or minus the signal that killed it."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def weights(folder: Path) -> dict[str, bytes]:
    """Every stage's weights, as written."""
    return {
        f"{name}/{path.name}": path.read_bytes() for name in STEPS for path in (folder / name).glob("*.safetensors")
    }


def size(folder: Path) -> int:
    """Bytes of a folder's files."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def kill_runs(clone: Path, disk: Path, kills: int, seed: int, is_small: bool) -> Counter[str]:
    """Kills runs so often; how many ended how.

    Raises:
        AssertionError: a checkpoint wasn't whole, a run didn't go on, or its weights differ.
    """
    os.chdir(clone)
    Path("killed.yaml").write_text(yaml.safe_dump(CONFIG))
    log, whole, draw = clone / "log.txt", clone / "whole", random.Random(seed)
    assert ended(started(whole, log)) == 0, log.read_text()[-3000:]
    for module in Path("modules.txt").read_text().split():  # what a run loads is loaded here, once
        with suppress(Exception):
            importlib.import_module(module)
    began = time.monotonic()
    assert ended(started(whole, log, "--overwrite")) == 0, log.read_text()[-3000:]
    length = time.monotonic() - began
    print(f"a run that isn't broken off takes {length:.1f} s", flush=True)
    expected = weights(whole)
    checkpoint = (whole / "checkpoints" / "last.ckpt").stat().st_size
    if is_small:  # room for the weights twice (the earlier ones are kept), and for a checkpoint and the one after it
        room = 2 * sum(map(len, expected.values())) + 2 * checkpoint + MARGIN
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={room}", "tmpfs", disk], check=True)
    folder, ballast, last = disk / "run", disk / "ballast", disk / "run" / "checkpoints" / "last.ckpt"
    counts: Counter[str] = Counter()
    starts = 0
    while counts["killed"] < kills or folder.exists():
        is_last = counts["killed"] >= kills
        resumes = last.exists()
        is_full = is_small and starts % 3 == 2 and not is_last and resumes
        if is_full:
            fill(ballast, checkpoint // 2)
        child = started(folder, log, *(["--ckpt_path=last"] if resumes else []))
        starts += 1
        if not is_last:
            time.sleep(draw.uniform(0, length))
            os.kill(child, signal.SIGKILL)
        code = ended(child)
        ballast.unlink(missing_ok=True)
        said = log.read_text()
        if resumes:
            assert last.exists(), "the checkpoint is gone"
        if last.exists():
            assert fault_of(last) is None, f"{last}: {fault_of(last)}"
        if code == -signal.SIGKILL:
            counts["killed"] += 1
            counts["killed with a checkpoint"] += resumes
        elif is_full and code == 2:
            assert "found no room on its disk" in said, said[-3000:]
            counts["disk full"] += 1
        else:
            assert code == 0, f"exit code {code}:\n{said[-3000:]}"
            found = weights(folder)
            assert found.keys() == expected.keys() and all(found[name] == expected[name] for name in expected), (
                "differs"
            )
            counts["finished, bit for bit"] += 1
            shutil.rmtree(folder)
    counts["starts"] = starts
    return counts


def fill(path: Path, left: int) -> None:
    """Fills the disk up to so many bytes."""
    free = shutil.disk_usage(path.parent).free
    with path.open("wb") as file:
        file.write(b"\0" * max(free - left, 0))


def main(arguments: list[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="where to work; a temporary folder if not given")
    options = parser.parse_args(arguments)
    within = ["unshare", "--user", "--map-root-user", "--mount"]
    can = subprocess.run([*within, "true"], capture_output=True, check=False).returncode == 0
    if INSIDE not in os.environ and can:
        os.execvpe(within[0], [*within, sys.executable, *sys.argv], os.environ | {INSIDE: "1"})
    is_small = INSIDE in os.environ
    if not is_small:
        print("no namespace to mount a small disk in: the runs' own disk has room")
    with tempfile.TemporaryDirectory(dir=options.folder) as parent:
        clone = tiny_clone(Path(parent) / "clone")
        disk = Path(parent) / "disk"
        disk.mkdir()
        began = time.monotonic()
        counts = kill_runs(clone, disk, options.kills, options.seed, is_small)
        print(", ".join(f"{how}: {count}" for how, count in counts.items()), f"in {time.monotonic() - began:.0f} s")
        if is_small:
            subprocess.run(["umount", disk], check=True)


if __name__ == "__main__":
    main()
