"""SI-SDR and STOI of made sounds against their own references."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from importlib.util import find_spec

import numpy as np
import soxr
import torch

from isthmus.evaluation.metrics.base import Figure, Metric, Processes
from isthmus.evaluation.metrics.distances.media import Pair, pairs_of
from isthmus.evaluation.metrics.scores import owners_figure
from isthmus.evaluation.predictions.answered import Answered
from isthmus.types import Modality

CHUNK = 16
LIMIT = 100.0
"""dB: the SI-SDR of equal sounds, of any that are nearer than that, and, below 0, of a silent sound beside another."""


class SoundLikeness(Metric):
    """``audio/si_sdr`` in dB and ``audio/stoi``, from 0 to 1, of sounds that have a reference.

    The reference is resampled to the made sound's rate, and the longer of both is cut. STOI is for speech, needs the
    extra ``metrics``, and is about 0 of sounds below 0.4 s. By torchmetrics and pystoi. Sources: J. Le Roux et al.,
    ICASSP 2019; C. H. Taal et al., ICASSP 2010.

    Args:
        stoi: whether intelligibility is measured.

    Raises:
        ValueError: it is, and pystoi isn't installed.
    """

    def __init__(self, stoi: bool = True) -> None:
        if stoi and find_spec("pystoi") is None:
            raise ValueError(
                "pystoi: found no such package; expected it, since it computes STOI. Fix: pip install "
                "'isthmus[metrics]', or set stoi to false."
            )
        self.stoi = stoi

    def measure(self, answers: Sequence[Answered], processes: Processes) -> Mapping[str, Figure]:
        """The figures, with each answer's scores; none where no answer has both a sound and a reference.

        Raises:
            DataError: a file is absent or damaged.
        """
        pairs = pairs_of(answers, Modality.AUDIO)
        if not pairs:
            return {}
        scores = processes.map(self._likeness, pairs, CHUNK, "audio: likeness")
        owners = [pair.owner for pair in pairs]
        protocol = {"library": f"torchmetrics {version('torchmetrics')}", "resampled": f"soxr {version('soxr')}"}
        figures = {"audio/si_sdr": owners_figure(owners, [one[0] for one in scores], protocol)}
        if self.stoi:
            own = {**protocol, "pystoi": version("pystoi")}
            figures["audio/stoi"] = owners_figure(owners, [one[1] for one in scores], own)
        return figures

    def _likeness(self, pairs: Sequence[Pair]) -> list[tuple[float, float]]:
        from torchmetrics.functional.audio import scale_invariant_signal_distortion_ratio

        found = []
        for pair in pairs:
            made, expected = pair.made.read(), pair.expected.read()
            assert made.rate is not None and expected.rate is not None, "sounds have a rate"
            reference = expected.array.astype(np.float64)
            if expected.rate != made.rate:
                reference = soxr.resample(reference, expected.rate, made.rate)
            length = min(len(reference), len(made.array))
            own = torch.from_numpy(made.array[:length].astype(np.float64))
            other = torch.from_numpy(np.ascontiguousarray(reference[:length]))
            if own.any() and other.any():
                ratio = float(scale_invariant_signal_distortion_ratio(own, other).clamp(-LIMIT, LIMIT))
            else:  # the definition divides 0 by 0; torchmetrics gives a silent answer 0 dB, above noise
                ratio = LIMIT if torch.equal(own, other) else -LIMIT
            found.append((ratio, self._heard(own, other, made.rate) if self.stoi else 0.0))
        return found

    def _heard(self, made: torch.Tensor, expected: torch.Tensor, rate: float) -> float:
        from torchmetrics.functional.audio.stoi import short_time_objective_intelligibility

        return float(short_time_objective_intelligibility(made, expected, round(rate)))
