"""The embedded C-Former: encodes the sound of dialling a number as one token for each key."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from isthmus.encoders.audio_frames import first_valid
from isthmus.encoders.c_former.encoder import CFormer, speech_banks
from isthmus.encoders.c_former.losses import speech_losses
from isthmus.encoders.c_former.model import CFormerConfig, CFormerModel
from isthmus.encoders.checkpoint import save_checkpoint
from isthmus.pocket.experts.command import run
from isthmus.pocket.experts.fitting import fit, halved, parameter_count
from isthmus.pocket.world import DIGITS, SAMPLE_RATE, SAMPLES, Concept, Split, draw_audio
from isthmus.types import Media, Modality

log = logging.getLogger(__name__)

LONGEST = 5
"""Keys of the longest number."""
SECONDS = 2 * LONGEST * SAMPLES / SAMPLE_RATE
"""The longest recording: a pause and a tone of the same length for every key."""
STEPS, LEARNING_RATE, BATCH, NUMBERS = 1500, 2e-3, 32, 3000
"""A batch is ``BATCH`` of the ``NUMBERS`` numbers that are drawn beforehand."""
CONFIG = CFormerConfig(
    bins=40, width=64, layers=2, heads=4, feed_forward=128, kernel=9, channels=16, dropout=0.05, pieces=DIGITS
)
"""Training adds the mean and deviation of the log-mel values."""


def dial(digits: Sequence[int], split: Split, random: np.random.Generator) -> Media:
    """The tones of a number's keys, half of them after a pause.

    Pauses are up to as long as a tone, so that a recording's length doesn't determine the number of keys.
    """
    sounds = []
    for digit in digits:
        pause = int(random.integers(SAMPLES)) if random.random() < 0.5 else 0
        sounds.append(random.normal(0, random.uniform(0.0005, 0.005), pause).astype(np.float32))
        sounds.append(draw_audio(Concept(digit), split, random).array)
    return Media(Modality.AUDIO, np.concatenate(sounds), rate=float(SAMPLE_RATE))


def draw_number(random: np.random.Generator, longest: int = LONGEST) -> list[int]:
    """A number of one key or more, uniform over lengths and digits."""
    return [int(digit) for digit in random.integers(10, size=random.integers(1, longest + 1))]


@dataclass
class Dialled:
    """Recordings of numbers.

    Attributes:
        banks: (n, frames, bins) log-mel filter banks, zero-padded.
        counts: (n,) int64, numbers of frames.
        digits: (n, LONGEST) int64, zero-padded.
        lengths: (n,) int64, numbers of keys.
    """

    banks: Tensor
    counts: Tensor
    digits: Tensor
    lengths: Tensor

    @classmethod
    def drawn(cls, config: CFormerConfig, count: int, seed: int) -> Dialled:
        """``count`` numbers of the training split, with banks that aren't normalised."""
        random = np.random.default_rng(seed)
        numbers = [draw_number(random) for _ in range(count)]
        plain = replace(config, bank_mean=0.0, bank_deviation=1.0)
        rows = [torch.from_numpy(speech_banks(dial(number, "train", random).array, plain)) for number in numbers]
        return cls(
            banks=torch.nn.utils.rnn.pad_sequence(rows, batch_first=True),
            counts=torch.tensor([len(row) for row in rows]),
            digits=torch.tensor([number + [0] * (LONGEST - len(number)) for number in numbers]),
            lengths=torch.tensor([len(number) for number in numbers]),
        )

    def statistics(self) -> tuple[float, float]:
        """Mean and standard deviation of the log-mel values within the recordings."""
        values = self.banks[first_valid(self.counts, self.banks.shape[1])]
        return float(values.mean()), float(values.std())


def train(out: Path, effort: float = 1.0, seed: int = 0, scratch: Path | None = None) -> dict[str, float]:
    """Trains the network, saves it in ``out``, as :class:`CFormer` reads it, and measures it.

    Args:
        out: the checkpoint's folder.
        effort: scales the steps and the numbers that are drawn and measured.
        seed: of weights and numbers.
        scratch: folder for snapshots of an interrupted training; None for none.
    """
    torch.manual_seed(seed)
    started, steps = time.monotonic(), max(int(STEPS * effort), 2)
    dialled = Dialled.drawn(CONFIG, max(int(NUMBERS * min(effort, 1.0)), BATCH), seed)
    mean, deviation = dialled.statistics()
    config = replace(CONFIG, bank_mean=mean, bank_deviation=deviation)
    model = CFormerModel(config)

    def loss(step: int) -> Tensor:
        chosen = torch.randint(len(dialled.counts), (BATCH,))
        counts, lengths = dialled.counts[chosen], dialled.lengths[chosen]
        banks = (dialled.banks[chosen, : int(counts.max())] - mean) / deviation
        spoken = model(banks, first_valid(counts, banks.shape[1]), lengths)
        return speech_losses(spoken, dialled.digits[chosen], lengths).total

    snapshot = scratch / "c_former.pt" if scratch else None
    averaged = fit("c_former", model, loss, steps, LEARNING_RATE, average=0.995, snapshot=snapshot, seed=seed)
    save_checkpoint(out, "c_former", config, halved(averaged.state_dict()))
    log.info("c_former: %d weights, %.0f s", parameter_count([model]), time.monotonic() - started)
    return measure(out, max(int(1000 * min(effort, 1.0)), 50))


def measure(folder: Path, n: int = 1000, seed: int = 1) -> dict[str, float]:
    """The expert's accuracy on ``n`` numbers of the test split, and on ``n`` single tones of the world.

    Returns:
        ``digit_error``, edits to the right number, for each key; ``number_accuracy``, the share of right numbers;
        ``count_accuracy``, of those with as many tokens as keys; ``tone_accuracy``, of right single tones.
    """
    expert, random = CFormer(folder, seconds=SECONDS), np.random.default_rng(seed)
    numbers = [draw_number(random) for _ in range(n)]
    read = _read(expert, [dial(number, "test", random) for number in numbers])
    tones = [[int(digit)] for digit in random.integers(10, size=n)]
    readings = _read(expert, [draw_audio(Concept(digit), "test", random) for (digit,) in tones])
    pairs = list(zip(read, numbers, strict=True))
    return {
        "digit_error": sum(edits(found, number) for found, number in pairs) / sum(map(len, numbers)),
        "number_accuracy": float(np.mean([found == number for found, number in pairs])),
        "count_accuracy": float(np.mean([len(found) == len(number) for found, number in pairs])),
        "tone_accuracy": float(np.mean([found == tone for found, tone in zip(readings, tones, strict=True)])),
    }


def _read(expert: CFormer, media: Sequence[Media]) -> list[list[int]]:
    read: list[list[int]] = []
    for start in range(0, len(media), 50):
        inputs = [expert.preprocess(medium) for medium in media[start : start + 50]]
        words = expert.transcribe({key: torch.stack([one[key] for one in inputs]) for key in inputs[0]})
        read += [[DIGITS.index(word) for word in row] for row in words]
    return read


def edits(found: Sequence[int], wanted: Sequence[int]) -> int:
    """The fewest insertions, deletions and substitutions from one to the other (Levenshtein)."""
    row = list(range(len(wanted) + 1))
    for i, one in enumerate(found, 1):
        diagonal, row[0] = row[0], i
        for j, other in enumerate(wanted, 1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (one != other))
    return row[-1]


if __name__ == "__main__":
    run(train, out="checkpoints/pocket-c_former", scratch="runs/pocket")
