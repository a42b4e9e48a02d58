"""Filling that is killed: the samples computed before and after are all of them, and none twice."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest
from forked import run, started
from tiny_world import tiny_experts

SIZE = 24
FILL = f"""
import sys, torch
from pathlib import Path
from tiny_world import tiny_model
from isthmus.data.batching.fetch import Steps
from isthmus.data.sampling.mixture import Mixture
from isthmus.cache.frozen import CacheSettings
from isthmus.pocket.tasks import Describe
from isthmus.training import TrainingModule
torch.set_num_threads(1)
root = Path(sys.argv[1])
names = ("imagebind", "point_bert", "llama", "image", "video", "audio")
model = tiny_model({{name: root / name for name in names}}, max_tokens=1024)
model.cache_settings = CacheSettings(Path(sys.argv[2]), trial=0)
model.configure_model()
module = TrainingModule(model)
source = Describe(size={SIZE})
steps = Steps(Mixture("it", {{"describe": {SIZE}}}, {{"describe": 1.0}}, 2, epochs=1.0), {{"describe": source}},
              module.collator("train"), 0, 1, "raise")
cache = module.cache()
for step in range({SIZE} // 2):
    batch = steps[step].batch
    fresh = {{int(row) for own in batch.media.values()
              for row, known in zip(own.rows, own.cached) if known.tokens is None}}
    with torch.no_grad():
        for modality, own in batch.media.items():
            model.input_side.features(modality, own)
    for row in sorted(fresh):
        print(batch.details[row]["id"], flush=True)
"""


def told(said: str) -> list[str]:
    """The samples that it says it has computed."""
    return [line for line in said.splitlines() if line.startswith("describe/")]


@pytest.mark.slow
def test_no_sample_is_lost_or_computed_twice(tmp_path: Path) -> None:
    experts = tiny_experts(tmp_path / "experts")["llama"].parent
    program = tmp_path / "fill.py"
    program.write_text(FILL)
    arguments = (str(experts), str(tmp_path / "cache"))
    with started(program, *arguments) as ((first,), log):
        while len(told(log.read_text())) < 6:
            assert first.is_alive(), log.read_text()
            time.sleep(0.002)
        first.kill()
        first.join()
        before = told(log.read_text())
        assert first.exitcode == -signal.SIGKILL and 6 <= len(before) < SIZE
    after = told(run(program, *arguments))
    every = {f"describe/{index}" for index in range(SIZE)}
    assert len(set(before)) == len(before) and len(set(after)) == len(after)
    assert not set(before) & set(after)
    missing = every - set(before) - set(after)
    assert len(missing) <= 2  # the batch that was written, and not yet reported, when the kill came
    assert told(run(program, *arguments)) == []
