"""The judge of tones: recognises a keypad key by the energy at its two frequencies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from isthmus.pocket.judges.base import MediaJudge, Reading
from isthmus.pocket.world import HIGH_TONES, KEYPAD, LOW_TONES
from isthmus.types import Media, Modality

WINDOW_SECONDS = 0.064
"""Resolves 31 Hz; neighbouring keypad tones are 73 Hz apart or more."""
SHARE = 0.5
"""The least share of the sound's energy in the two tones together."""
WEAKER = 0.05
"""The least share of the weaker of the two: a key needs both tones."""
DOMINANCE = 2.0
"""The least ratio of each tone's energy to the next strongest of its group."""

_DIGITS = {tones: digit for digit, tones in KEYPAD.items()}


def tone_shares(samples: np.ndarray[Any, Any], rate: float) -> np.ndarray[Any, Any]:
    """The share of the sound's energy at each of the four low and three high tones (7,), in [0, 1].

    Goertzel's sum at each frequency, over half-overlapping Hann windows; a pure tone has share 1.
    A key that is off pitch by 1.5 % or more isn't recognised: the frequency windows are too narrow.
    Source: ITU-T Q.23 (the frequencies).
    """
    length = round(WINDOW_SECONDS * rate)
    sound = np.pad(samples.astype(np.float64) - samples.mean(), (0, max(0, length - len(samples))))
    frames = np.lib.stride_tricks.sliding_window_view(sound, length)[:: length // 2]
    window = np.hanning(length)
    waves = np.exp(-2j * np.pi * np.outer(np.arange(length) / rate, (*LOW_TONES, *HIGH_TONES)))
    tones = 2 * np.abs(frames @ (waves * window[:, None])) ** 2 / window.sum()
    energy = float((frames**2 @ window).sum())
    shares: np.ndarray[Any, Any] = tones.sum(0) / energy if energy > 1e-9 else np.zeros(7)
    return shares


class AudioJudge(MediaJudge):
    """Reads the digit of a tone, at any sample rate above 3 kHz; None where no single key dominates."""

    modality = Modality.AUDIO
    attributes = ("digit",)

    def many(self, media: Sequence[Media]) -> list[Reading]:
        """Reads one sound at a time."""
        self.check(media)
        return [{"digit": self._digit(medium)} for medium in media]

    def _digit(self, medium: Media) -> int | None:
        assert medium.rate is not None  # Media ensures it for audio
        shares = tone_shares(medium.array, medium.rate)
        found, total = [], 0.0
        for tones, group in ((LOW_TONES, shares[:4]), (HIGH_TONES, shares[4:])):
            order = np.argsort(group)
            best, second = group[order[-1]], group[order[-2]]
            if best < WEAKER or best < DOMINANCE * second:
                return None
            found.append(tones[order[-1]])
            total += float(best)
        return _DIGITS.get((found[0], found[1])) if total >= SHARE else None
