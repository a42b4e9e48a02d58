"""The Java programs of the COCO caption evaluation, which the package ``pycocoevalcap`` carries.

The package's own splitter and its SPICE write into the folder that it is installed in, and its SPICE fetches parsers
unasked; here the programs alone are used, and whatever is written goes into a temporary folder.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

PACKAGE = "pycocoevalcap"
EXTRA = "metrics"


def toolkit() -> Path:
    """The package's folder, without importing it.

    Raises:
        ValueError: it isn't installed, or there is no Java.
    """
    found = find_spec(PACKAGE)
    if found is None or not found.submodule_search_locations:
        raise ValueError(
            f"{PACKAGE}: found no such package; expected the COCO caption evaluation's programs, which coco words, "
            f"METEOR and SPICE need. Fix: pip install 'isthmus[{EXTRA}]'."
        )
    if shutil.which("java") is None:
        raise ValueError(
            "java: found no such command; expected Java, in which the COCO caption evaluation's programs are written. "
            "Fix: install it (apt-get install default-jre-headless)."
        )
    return Path(next(iter(found.submodule_search_locations)))


def run_java(name: str, arguments: Sequence[str], given: str = "") -> str:
    """What a Java program prints.

    Args:
        name: of the program, for errors.
        arguments: of ``java``.
        given: what it reads.

    Raises:
        ValueError: it failed; the message ends with what it said last.
    """
    command = ["java", "-Dfile.encoding=UTF-8", *arguments]
    done = subprocess.run(command, input=given.encode(), capture_output=True, check=False)
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise ValueError(
            f"{name}: found that Java ended with exit code {done.returncode} ({' | '.join(said[:3])[:400]}); expected "
            "it to finish. Fix: give it the memory, the version of Java (9 or later) or the files that it asks for."
        )
    return done.stdout.decode()


def coco_words(texts: Sequence[str]) -> list[list[str]]:
    """Texts -> words as the COCO caption evaluation splits them: Penn Treebank's, lower-case, without punctuation.

    Raises:
        ValueError: the program isn't installed, or failed.
    """
    folder = toolkit() / "tokenizer"
    from pycocoevalcap.tokenizer.ptbtokenizer import PUNCTUATIONS, STANFORD_CORENLP_3_4_1_JAR

    # One text a line: whatever else Java takes for the end of a line would part a text from its place.
    lines = "".join(f"{' '.join(text.split())}\n" for text in texts)
    splitter = ("edu.stanford.nlp.process.PTBTokenizer", "-preserveLines", "-lowerCase", "-encoding", "UTF-8")
    split = run_java("words", ["-cp", str(folder / STANFORD_CORENLP_3_4_1_JAR), *splitter], lines).split("\n")
    assert len(split) == len(texts) + 1, f"{len(split) - 1} lines for {len(texts)} texts"
    return [[word for word in line.split(" ") if word and word not in PUNCTUATIONS] for line in split[:-1]]
