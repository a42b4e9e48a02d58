"""Trains experts for a user's own digits on top of the embedded ones: ``python -m isthmus.pocket.train --manifest``."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from isthmus.pocket.experts import imagebind_tuning, stable_diffusion, zeroscope
from isthmus.pocket.experts.audio import audioldm
from isthmus.pocket.experts.points import point_bert_tuning
from isthmus.pocket.judges import training as judges
from isthmus.pocket.judges.base import MediaJudge, judge_accuracy
from isthmus.pocket.judges.image import ImageJudge
from isthmus.pocket.judges.speech import SpeechJudge
from isthmus.pocket.judges.speech_training import train_speech
from isthmus.pocket.judges.video import VideoJudge
from isthmus.pocket.manifest_world import ManifestWorld

log = logging.getLogger(__name__)

Figures = dict[str, float]
FIGURES = "figures.json"


def tune(
    world: ManifestWorld,
    out: Path,
    start: Path,
    scratch: Path,
    effort: float = 1.0,
    seed: int = 0,
    experts: Sequence[str] | None = None,
) -> dict[str, Figures]:
    """Writes judges and experts below ``out``; returns their figures on test data, which ``figures.json`` collects.

    Args:
        world: the user's digits.
        out: the folder of the experts' folders.
        start: that of the embedded experts, from whose weights all but the judges start.
        scratch: folder for snapshots of interrupted trainings.
        effort: factor of all numbers of steps.
        seed: of all random choices.
        experts: those to train, in this order: judges first, Stable Diffusion before ZeroScope. By default all.

    Raises:
        ValueError: an unknown expert, or the set lacks media that an expert needs.
    """
    count = max(int(200 * min(effort, 1)), 10)
    settings = (effort, seed, scratch)

    def judged() -> Figures:
        judges.train(out / "judges", effort, seed, world)
        train_speech(out / "judges", world, effort, seed)
        read: list[MediaJudge] = [
            ImageJudge(out / "judges"),
            VideoJudge(out / "judges", last_frame=world.is_written),
            SpeechJudge(out / "judges"),
        ]
        return {str(judge.modality): judge_accuracy(judge, n=5 * count, world=world)["digit"] for judge in read}

    def images() -> Figures:
        stable_diffusion.train(
            out / "stable_diffusion", 0.45 * effort, seed, scratch, world, start / "stable_diffusion"
        )
        return stable_diffusion.measure(out / "stable_diffusion", out / "judges", count, world=world)

    def videos() -> Figures:
        folders = out / "zeroscope", out / "stable_diffusion"
        zeroscope.train(*folders, 0.4 * effort, seed, scratch, world, start / "zeroscope")
        return zeroscope.measure(folders[0], out / "judges", count, world=world)

    def sounds() -> Figures:
        judge = SpeechJudge(out / "judges")
        # The vocoder needs the most steps: a tone's spectrum is constant, that of speech changes.
        return audioldm.train(
            out / "audioldm",
            0.9 * effort,
            seed,
            scratch,
            world,
            start / "audioldm",
            judge,
            vocoder_steps=6000,
            mel_weight=3.0,
        )

    def points() -> Figures:
        return point_bert_tuning.tune(out / "point_bert", start / "point_bert", start / "imagebind", world, *settings)

    trainings: dict[str, Callable[[], Figures]] = {
        "judges": judged,
        "imagebind": lambda: imagebind_tuning.tune(out / "imagebind", start / "imagebind", world, *settings),
        "point_bert": points,
        "audioldm": sounds,
        "stable_diffusion": images,
        "zeroscope": videos,
    }
    return run(trainings, list(trainings) if experts is None else list(experts), out)


def run(trainings: Mapping[str, Callable[[], Figures]], chosen: Sequence[str], out: Path) -> dict[str, Figures]:
    """Trains the chosen experts in turn; their figures and times go to ``figures.json`` in ``out`` after each.

    Raises:
        ValueError: an unknown expert.
    """
    if unknown := [name for name in chosen if name not in trainings]:
        raise ValueError(f"experts: found {unknown[0]!r}; expected some of {', '.join(trainings)}. Fix: rename it.")
    file = out / FIGURES
    figures: dict[str, Figures] = {}
    for name in chosen:
        began = time.monotonic()
        measured = trainings[name]() | {"seconds": round(time.monotonic() - began)}
        # Read after training, since another process may have written other experts' figures meanwhile.
        figures = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
        figures[name] = measured
        out.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
        log.info("%s: %s", name, figures[name])
    return {name: figures[name] for name in chosen}
