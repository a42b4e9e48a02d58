"""``isthmus import FILE``: what ``isthmus export`` wrote, checked and put into a folder to chat and train with."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from isthmus.cache.fingerprint import fingerprint
from isthmus.earlier.options import renamed
from isthmus.model.allowed import require_allowed
from isthmus.model.bundle import MANIFEST, parse_component, parse_manifest
from isthmus.model.relocation import CHECKPOINT, held, place, relocated
from isthmus.model.sharing.archive import LARGEST, unpack
from isthmus.model.sharing.export import CARD
from isthmus.paths import shipped_path
from isthmus.writing import write_folder


@dataclass
class Opened:
    """What was imported.

    Attributes:
        folder: of the model.
        stage: up to which it was trained.
        experts: role -> class and checkpoint, as they were where it was trained.
        absent: roles whose expert isn't found on this machine.
    """

    folder: Path
    stage: str
    experts: dict[str, str] = field(default_factory=dict)
    absent: list[str] = field(default_factory=list)


def open_export(
    source: Path,
    out: Path,
    experts: Mapping[str, str | Path] | None = None,
    experts_root: str | Path | None = None,
    allow: Sequence[str] = (),
    largest: float = LARGEST,
) -> Opened:
    """Checks a file or a folder that was exported, and writes it as a folder of this machine.

    Nothing of it is run, and nothing is written before all of it is checked. With ``experts`` or ``experts_root`` the
    folder names the experts where they lie here, and later commands find them by themselves.

    Args:
        source: an archive, or a folder.
        out: a new folder.
        experts: where experts lie, by role: see :func:`isthmus.model.relocation.place`.
        experts_root: a folder with the others.
        allow: packages whose classes the configuration may name, beside this one.
        largest: gigabytes that an archive's files may have together.

    Raises:
        ValueError: it isn't an exported model, is damaged, names another package's class, an expert isn't the one that
            it was trained beside, or ``out`` is there already.
    """
    if out.exists():
        raise ValueError(f"{out}: found something of that name; expected a new folder. Fix: choose another by --out.")
    if not source.exists():
        raise ValueError(f"{source}: found no such file; expected what `isthmus export` wrote. Fix: correct the path.")
    files = _files_of(source) if source.is_dir() else unpack(source, largest)
    if MANIFEST not in files:
        raise ValueError(f"{source}: found no {MANIFEST}, so no trained model. Fix: name what `isthmus export` wrote.")
    manifest = parse_manifest(files[MANIFEST], source / MANIFEST)
    _check_components(source, manifest, files)
    configuration = manifest["configuration"]
    if configuration is not None:
        manifest["configuration"] = configuration = renamed(configuration)
        require_allowed(configuration, allow, source / MANIFEST)
        for role in place(configuration, experts, experts_root):
            _settle(source, role, manifest)
        files[MANIFEST] = (json.dumps(manifest, indent=2) + "\n").encode()
    write_folder(out, files)
    opened = Opened(out, manifest["stage"])
    opened.experts = {role: f"{one['class']} {one[CHECKPOINT]}" for role, one in manifest["experts"].items()}
    if configuration is not None:
        opened.absent = [
            role for part in held(relocated(configuration, out)) if part.is_absent() for role in part.roles
        ]
    return opened


def _files_of(folder: Path) -> dict[str, bytes]:
    """A folder's files that a model may have."""
    names = [folder / MANIFEST, folder / CARD, *sorted(folder.glob("*.safetensors"))]
    return {path.name: path.read_bytes() for path in names if path.is_file()}


def _check_components(source: Path, manifest: Mapping[str, Any], files: Mapping[str, bytes]) -> None:
    """Holds the files against the manifest's digests: all of them, and no others."""
    named = {f"{component}.safetensors": digest for component, digest in manifest["components"].items()}
    there = files.keys() - {MANIFEST, CARD}
    if named.keys() != there:
        odd = ", ".join(sorted(named.keys() ^ there))
        raise ValueError(
            f"{source}: found {len(there)} files of weights; expected the {len(named)} that its manifest names; they "
            f"differ in {odd[:200]}. Fix: copy it anew."
        )
    for name, digest in named.items():
        parse_component(files[name], digest, source / name)


def _settle(source: Path, role: str, manifest: dict[str, Any]) -> None:
    """Compares an expert that was placed with the one that the model was trained beside, and takes down where it is."""
    trained = manifest["experts"].get(role)
    if trained is None:  # a projector's starting weights, say: no expert is frozen there
        return
    (part,) = [each for each in held(manifest["configuration"]) if role in each.roles]
    own = fingerprint(shipped_path(part.checkpoint))
    if own != trained["fingerprint"]:
        raise ValueError(
            f"{source}: {role} was {trained['class']} {trained[CHECKPOINT]} with the fingerprint "
            f"{trained['fingerprint'][:8]}; found {part.checkpoint} with {own[:8]}. Fix: give the same expert."
        )
    trained[CHECKPOINT] = part.checkpoint
