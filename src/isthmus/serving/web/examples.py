"""Questions to click: those of the packaged files and words that fit what the served model takes and makes."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from isthmus.model import AnyToAny

FOLDER = Path(str(files(__package__))) / "static" / "examples"
MADE = {"image": "draw it", "audio": "play it", "video": "film it", "points": "carve it"}
FILES = {"image": "three.png", "audio": "four.wav", "video": "six.mp4", "points": "seven.npy"}
SAID = {"image": "a drawn three", "audio": "a tone for four", "video": "a film of a six", "points": "a seven in 3D"}


@dataclass(frozen=True)
class Example:
    """A question to click.

    Attributes:
        text: of the question.
        media: whose files are attached.
        says: on its button.
    """

    text: str
    media: tuple[str, ...]
    says: str

    @property
    def paths(self) -> list[Path]:
        """Of its files."""
        return [FOLDER / FILES[medium] for medium in self.media]


def examples(model: AnyToAny) -> list[Example]:
    """Those that the model can answer."""
    takes = [medium for medium in FILES if medium in model.inputs]
    makes = [medium for medium in MADE if medium in model.outputs]
    found = [Example("which digit is it?", (medium,), f"{SAID[medium]}: which digit is it?") for medium in takes[:2]]
    for source, made in (("image", "audio"), ("audio", "image"), ("image", "points"), ("points", "video")):
        if source in takes and made in makes:
            found.append(Example(MADE[made], (source,), f"{SAID[source]}: {MADE[made]}"))
    if "image" in takes and "audio" in takes and "image" in makes:
        found.append(Example("draw their sum", ("image", "audio"), f"{SAID['image']} and {SAID['audio']}: their sum"))
    if "image" in makes:
        found.append(Example("draw a red seven", (), "draw a red seven"))
    return found
