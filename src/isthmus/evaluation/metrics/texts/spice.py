"""SPICE and SPIDEr, by the program of the COCO caption evaluation and Stanford's parser."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

from isthmus.evaluation.captions.metrics import cider
from isthmus.evaluation.metrics.base import Figure, Metric, Processes
from isthmus.evaluation.metrics.scores import mean_figure, require_answers
from isthmus.evaluation.metrics.texts.captions import CaptionMetrics
from isthmus.evaluation.metrics.texts.java import PACKAGE, run_java, toolkit
from isthmus.evaluation.predictions.answered import Answered
from isthmus.paths import user_path

PARSER = ("stanford-corenlp-3.6.0.jar", "stanford-corenlp-3.6.0-models.jar")
"""What SPICE parses sentences with. The package leaves it out for its size."""
OPENED = ("java.lang", "java.util", "java.util.concurrent", "java.math", "java.net", "java.text")
"""Java's own packages that SPICE's serializer looks into, which Java forbids from 17 on unless it is told."""


class Spice(Metric):
    """``text/spice``, whether captions state the same facts, and ``text/spider``, its mean with CIDEr-D.

    It needs the extra ``metrics``, Java, and Stanford's parser, which is fetched by hand: ``parser`` is the folder of
    the two files of :data:`PARSER`, from https://nlp.stanford.edu/software/stanford-corenlp-full-2015-12-09.zip. One
    process of a run computes it. Sources: P. Anderson et al., ECCV 2016; S. Liu et al., ICCV 2017.

    Args:
        parser: the folder of the parser's two files.
        reference: the detail that holds a caption, or a list of them; the words of the expected message if None.
        memory: that Java may take, as it writes it: the parser's models alone take 4 GB.
    """

    def __init__(self, parser: Path, reference: str | None = None, memory: str = "8G") -> None:
        self.parser = user_path(parser)
        if absent := [name for name in PARSER if not (self.parser / name).is_file()]:
            raise ValueError(
                f"{self.parser}: found no {' and no '.join(absent)}; expected Stanford's parser, which SPICE needs. "
                "Fix: fetch https://nlp.stanford.edu/software/stanford-corenlp-full-2015-12-09.zip, and give the "
                "folder that its jar files are unpacked to."
            )
        self.reference = reference
        self.memory = memory

    def measure(self, answers: Sequence[Answered], processes: Processes) -> Mapping[str, Figure]:
        """The figures, each the mean of its answers' scores.

        Raises:
            ValueError: an answer has no reference, or a program isn't installed or fails.
        """
        require_answers(answers)
        toolkit()
        said, expected = CaptionMetrics(self.reference, "coco").words(answers, processes)
        rows = [(" ".join(words), [" ".join(one) for one in own]) for words, own in zip(said, expected, strict=True)]
        facts = processes.map(self._facts, rows, size=len(rows), what="SPICE")
        grams = cider(said, expected)
        digest = sha256(b"".join((self.parser / name).read_bytes() for name in PARSER)).hexdigest()[:32]
        protocol = {
            "reference": self.reference,
            "splitter": "coco",
            "library": f"{PACKAGE} {version(PACKAGE)}",
            "parser": digest,
        }
        both = [(one + other) / 2 for one, other in zip(facts, grams, strict=True)]
        return {
            "text/spice": mean_figure(answers, facts, protocol),
            "text/spider": mean_figure(answers, both, protocol),
        }

    def _facts(self, rows: Sequence[tuple[str, list[str]]]) -> list[float]:
        """SPICE of each caption."""
        folder = toolkit() / "spice"
        given = [{"image_id": place, "test": one, "refs": own} for place, (one, own) in enumerate(rows)]
        jars = [str(folder / "spice-1.0.jar"), f"{folder / 'lib'}/*", *(str(self.parser / name) for name in PARSER)]
        opened = [argument for name in OPENED for argument in ("--add-opens", f"java.base/{name}=ALL-UNNAMED")]
        with TemporaryDirectory() as place:
            asked, answered = Path(place) / "captions.json", Path(place) / "scores.json"
            asked.write_text(json.dumps(given), encoding="utf-8")
            program = [*opened, f"-Xmx{self.memory}", "-cp", os.pathsep.join(jars), "edu.anu.spice.SpiceScorer"]
            run_java("SPICE", [*program, str(asked), "-out", str(answered), "-silent"])
            found = {one["image_id"]: one["scores"] for one in json.loads(answered.read_text(encoding="utf-8"))}
        return [float(found[place]["All"]["f"]) for place in range(len(rows))]
