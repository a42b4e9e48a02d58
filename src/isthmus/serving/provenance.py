"""What files of made media say of themselves: made by this program, by which model, with which seed.

A picture has it as PNG's text chunks and as IPTC's word for media of trained models, which other programs know; sounds
and films as their format's comment.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from isthmus import __version__

SOUNDS_AND_FILMS = (".wav", ".flac", ".mp3", ".ogg", ".mp4", ".mkv")
"""Endings of files that FFmpeg copies with a comment."""
TRAINED = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
XMP = (
    '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    '<rdf:Description rdf:about="" xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" '
    f'Iptc4xmpExt:DigitalSourceType="{TRAINED}"/></rdf:RDF></x:xmpmeta>'
)


@dataclass(frozen=True)
class Provenance:
    """Where a medium comes from.

    Attributes:
        model: its name.
        seed: of the request.
    """

    model: str
    seed: int

    @property
    def comment(self) -> str:
        """All of it in a sentence."""
        return f"Made by isthmus {__version__}, model {self.model}, seed {self.seed}"

    def mark(self, path: Path) -> None:
        """Writes it into a file, whose pixels and samples stay the same; formats that hold no words are left alone."""
        if path.suffix == ".png":
            self._mark_picture(path)
        elif path.suffix in SOUNDS_AND_FILMS:
            self._mark_container(path)

    def _mark_picture(self, path: Path) -> None:
        from PIL import Image
        from PIL.PngImagePlugin import PngInfo

        texts = PngInfo()
        for key, words in (("Software", f"isthmus {__version__}"), ("Model", self.model), ("Seed", str(self.seed))):
            texts.add_itxt(key, words)
        texts.add_itxt("XML:com.adobe.xmp", XMP)
        with Image.open(path) as image:
            image.load()
            image.save(path, format="PNG", pnginfo=texts)

    def _mark_container(self, path: Path) -> None:
        import av

        marked = path.with_name(f"marked{path.suffix}")
        with av.open(str(path)) as given, av.open(str(marked), "w") as taken:
            taken.metadata["comment"] = self.comment
            streams: dict[int, Any] = {one.index: taken.add_stream_from_template(one) for one in given.streams}
            for packet in given.demux():
                if packet.dts is not None:
                    packet.stream = streams[packet.stream_index]
                    taken.mux(packet)
        marked.replace(path)
