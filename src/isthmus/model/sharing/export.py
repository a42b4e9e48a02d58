"""``isthmus export``: a trained stage's folder -> one folder or file for others."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from isthmus.data.licences import stated_licences
from isthmus.hub.address import is_address, parse_address
from isthmus.hub.listing import stated_on_hub
from isthmus.model.bundle import MANIFEST, components_as_files, read_components, read_manifest
from isthmus.model.relocation import CHECKPOINT, held, relocated
from isthmus.model.sharing.archive import ENDING, pack
from isthmus.model.sharing.card import UNSTATED, model_card
from isthmus.model.sharing.unplaced import without_paths
from isthmus.precision import Dtype
from isthmus.writing import write_folder

CARD = "README.md"


def export(
    folder: Path,
    out: Path,
    license: str | None = None,
    figures: Sequence[str] = (),
    published: Mapping[str, str] | None = None,
    dtype: Dtype | None = None,
) -> Path:
    """Writes what others need of a trained model: weights, configuration, fingerprints, and a card with licences.

    Paths of this machine, which would tell of whose it is, are cut: see :func:`without_paths`.

    Args:
        folder: the trained stage's.
        out: a new folder, or a new file that ends in ``.zip``.
        license: of what was learnt, for the card.
        figures: lines of what was measured, for the card.
        published: by class, the licence of its published weights, for experts whose folder doesn't state one.
        dtype: what the weights are stored in; as they were trained by default, which is mostly float32.

    Raises:
        ValueError: the folder isn't a trained model's or is damaged, or ``out`` is there already or can't be written.
    """
    if out.exists() or (out.suffix and out.suffix != ENDING):
        found = "something of that name" if out.exists() else f"the ending {out.suffix}"
        raise ValueError(
            f"{out}: found {found}; expected a new folder, or a new file NAME{ENDING}. Fix: choose another."
        )
    name = out.stem if out.suffix == ENDING else out.name
    files = exported_files(folder, name, license, figures, published, dtype, out.name)
    if out.suffix == ENDING:
        pack(files, out)
    else:
        write_folder(out, files)
    return out


def exported_files(
    folder: Path,
    name: str,
    license: str | None,
    figures: Sequence[str],
    published: Mapping[str, str] | None,
    dtype: Dtype | None,
    home: str,
) -> dict[str, bytes]:
    """The files of :func:`export`, by name.

    Args:
        folder: the trained stage's. See :func:`export` for what isn't here.
        name: of the model, for its card.
        license: of what was learnt.
        figures: lines of what was measured.
        published: licences by class.
        dtype: what the weights are stored in.
        home: where whoever gets it finds it: a file, a folder, or a repository on the hub.

    Raises:
        ValueError: the folder isn't a trained model's, or is damaged.
    """
    state = read_components(folder)  # damage shows here, and not at whoever gets it
    manifest = read_manifest(folder)
    licences = _licences(folder, manifest, published or {})
    manifest = without_paths(manifest)
    if dtype is None:
        files = {f"{component}.safetensors": (folder / f"{component}.safetensors").read_bytes() for component in state}
    else:
        files, manifest["components"] = components_as_files(state, getattr(torch, dtype))
    files[MANIFEST] = (json.dumps(manifest, indent=2) + "\n").encode()
    files[CARD] = model_card(name, manifest, state, licences, license, figures, home, files).encode()
    return files


def _licences(folder: Path, manifest: Mapping[str, Any], published: Mapping[str, str]) -> dict[str, str]:
    """By role what a card in the expert's folder or above says, or what is known of its class's published weights."""
    there = {
        Path(part.checkpoint).name: Path(part.checkpoint)
        for part in held(relocated(manifest["configuration"], folder))
        if not part.is_absent()
    }
    found = {}
    for role, one in manifest["experts"].items():
        path = there.get(Path(one[CHECKPOINT]).name, Path(one[CHECKPOINT]))
        stated = next(filter(None, map(stated_licences, (path, path.parent))), None)
        if is_address(one[CHECKPOINT]):
            stated = stated_on_hub(parse_address(one[CHECKPOINT]))
        if stated:
            found[role] = ", ".join(stated)
        elif one["class"] in published:
            found[role] = f"{UNSTATED}; as published: {published[one['class']]}"
    return found
