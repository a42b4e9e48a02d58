"""Draws front.png, conversations of a trained model: `python docs/images/front.py STAGE`."""

from __future__ import annotations

import sys
from pathlib import Path

from matplotlib.figure import Figure

from isthmus import AnyToAny, Media
from isthmus.data.media.files import read_media
from isthmus.evaluation.inside.drawing import draw_medium
from isthmus.modalities import Modality

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = {"image": "three.png", "audio": "four.wav", "video": "six.mp4", "points": "seven.npy"}
ASKED = (
    ((), "draw a red seven", "image"),
    (("image",), "film it", "video"),
    (("video",), "carve it", "points"),
    (("points",), "play it", "audio"),
    (("image", "audio"), "draw their sum", "image"),
)
"""Media that are shown, what is said, and what is made."""


def draw(model: AnyToAny) -> Figure:
    """What was asked and shown above, what was answered below."""
    columns = sum(max(len(shown), 1) for shown, _, _ in ASKED)
    figure = Figure(figsize=(1.6 * columns, 3.6), layout="constrained")
    place = 1
    for shown, said, made in ASKED:
        media = [read_media(ROOT / "examples" / EXAMPLES[name], Modality(name)) for name in shown]
        content = [{"type": str(medium.modality), str(medium.modality): medium} for medium in media]
        turn = {"role": "user", "content": [*content, {"type": "text", "text": said}]}
        reply = model.chat([turn], require=[made])
        for offset, medium in enumerate(media):
            draw_medium(figure, (2, columns, place + offset), still(medium), said if offset == 0 else "")
        if not media:
            axes = figure.add_subplot(2, columns, place)
            axes.text(0.5, 0.5, said.replace("draw ", "draw\n"), ha="center", va="center", fontsize=11)
            axes.set_axis_off()
        (answer, *_) = reply.media()
        draw_medium(figure, (2, columns, columns + place), still(answer), reply.text)
        place += max(len(shown), 1)
    return figure


def still(medium: Media) -> Media:
    """A video's frames of its beginning, middle and end would be small side by side: its middle one."""
    if medium.modality is not Modality.VIDEO:
        return medium
    return Media(Modality.IMAGE, medium.array[len(medium.array) // 2])


if __name__ == "__main__":
    draw(AnyToAny.from_checkpoint(sys.argv[1])).savefig(Path(__file__).with_suffix(".png"), dpi=110)
