"""Words -> speech, by the program espeak-ng; its recordings are kept in a folder."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from hashlib import blake2b
from pathlib import Path

from isthmus.data.media.deferred import DeferredMedia
from isthmus.data.media.files import read_media
from isthmus.pocket.talk.speech.voices import Voice
from isthmus.types import Media, Modality

PROGRAM = "espeak-ng"
LONGEST = 60
"""Seconds that a sentence may take to be spoken; it takes some hundredths."""


def spoken(words: str, voice: Voice, folder: Path) -> Media:
    """A recording of the words, made on first use and kept as ``folder/NAME.wav``.

    Args:
        words: what is said.
        voice: how.
        folder: of the recordings.
    """
    said = f"{voice.name}\n{voice.speed}\n{voice.pitch}\n{words}"
    name = blake2b(said.encode(), digest_size=16).hexdigest()
    return DeferredMedia(Modality.AUDIO, f"speech {name}", lambda: _recording(words, voice, folder / f"{name}.wav"))


def _recording(words: str, voice: Voice, file: Path) -> Media:
    if not file.is_file():
        _say(words, voice, file)
    return read_media(file, Modality.AUDIO)


def _say(words: str, voice: Voice, file: Path) -> None:
    """Writes a recording. Several processes may write the same one: each writes aside and renames.

    Raises:
        ValueError: espeak-ng isn't installed, or can't say it.
    """
    program = shutil.which(PROGRAM)
    if program is None:
        raise ValueError(
            f"{file}: found no {PROGRAM} on this machine; expected the program, which speaks the talk world's "
            f"sentences. Fix: install it (apt-get install {PROGRAM}, brew install {PROGRAM}), or leave out the sources "
            "of speech."
        )
    file.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=file.parent) as folder:
        aside = Path(folder, file.name)
        options = ["-v", voice.name, "-s", str(voice.speed), "-p", str(voice.pitch), "-w", str(aside)]
        # "--" ends the options: words may begin with a dash.
        ended = subprocess.run(  # the program, and arguments that no shell reads
            [program, *options, "--", words], capture_output=True, text=True, timeout=LONGEST, check=False
        )
        if ended.returncode != 0 or not aside.is_file() or ended.stderr:
            raise ValueError(
                f"{file}: {PROGRAM} failed to say {words!r} in voice {voice.name} ({ended.stderr.strip()}); expected a "
                "recording. Fix: install its voices (espeak-ng-data)."
            )
        os.replace(aside, file)
