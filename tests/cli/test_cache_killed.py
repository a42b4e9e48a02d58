"""Filling that is killed: the samples computed before and after are all of them, and none twice."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
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


@pytest.mark.slow
def test_no_sample_is_lost_or_computed_twice(tmp_path: Path) -> None:
    experts = tiny_experts(tmp_path / "experts")["llama"].parent
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent.parent), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", FILL, str(experts), str(tmp_path / "cache")]
    first = subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True)
    assert first.stdout is not None
    before = [first.stdout.readline().strip() for _ in range(6)]
    os.kill(first.pid, signal.SIGKILL)
    before += first.stdout.read().split()
    assert first.wait() == -signal.SIGKILL and 6 <= len(before) < SIZE
    after = subprocess.run(command, stdout=subprocess.PIPE, env=environment, text=True, check=True).stdout.split()
    every = {f"describe/{index}" for index in range(SIZE)}
    assert len(set(before)) == len(before) and len(set(after)) == len(after)
    assert not set(before) & set(after)
    missing = every - set(before) - set(after)
    assert len(missing) <= 2  # the batch that was written, and not yet reported, when the kill came
    third = subprocess.run(command, stdout=subprocess.PIPE, env=environment, text=True, check=True).stdout.split()
    assert third == []
