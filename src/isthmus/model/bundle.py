"""A trained model's folder: one safetensors file a component, and a manifest of what it was trained beside.

folder/manifest.json            format, stage, experts and their fingerprints, the model's configuration, digests
folder/input_projectors.image.safetensors, lora.safetensors, ...
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from hashlib import sha256
from inspect import signature
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from isthmus import __version__
from isthmus.backbones.adapters.lora import LoraSettings
from isthmus.backbones.owned_state import State
from isthmus.cache.fingerprint import fingerprint
from isthmus.earlier.options import renamed
from isthmus.hub.address import address_of, pinned
from isthmus.model.allowed import require_allowed
from isthmus.model.relocation import place, relocated, require_there
from isthmus.paths import shipped_name
from isthmus.writing import PREVIOUS, write_folder

M = TypeVar("M")

FORMAT = 2
READS = (1, 2)
"""Format 1 has rows of new tokens in one tensor for all media, 2 under each modality's name."""
MANIFEST = "manifest.json"


def write_bundle(
    folder: Path,
    stage: str,
    state: State,
    experts: Mapping[str, Any],
    lora: LoraSettings | None,
    configuration: dict[str, Any] | None,
    data: Mapping[str, Any] | None = None,
) -> Path:
    """Writes what a model has learnt, the whole folder or nothing; an earlier one is kept as ``NAME.previous``.

    Args:
        folder: where to.
        stage: that was trained last.
        state: by component.
        experts: by role, what the model was trained beside.
        lora: how its LLM is adapted.
        configuration: that composed it; None if it was composed in Python.
        data: what it was learnt from, by source.

    Raises:
        ValueError: it can't be written; an earlier bundle is as it was.
    """
    files, digests = components_as_files(state)
    manifest: dict[str, Any] = {
        "format": FORMAT,
        "stage": stage,
        "made_by": {"isthmus": __version__, "torch": torch.__version__},
        "experts": described(experts),
        "components": digests,
        "configuration": pinned(configuration),
    }
    if data is not None:
        manifest["data"] = dict(data)
    if lora is not None:
        manifest["lora"] = {"method": lora.method, "r": lora.r, "lora_alpha": lora.lora_alpha}
    files[MANIFEST] = (json.dumps(manifest, indent=2) + "\n").encode()
    write_folder(folder, files)
    return folder


def components_as_files(state: State, dtype: torch.dtype | None = None) -> tuple[dict[str, bytes], dict[str, str]]:
    """Files by name, and digests by component.

    Args:
        state: by component.
        dtype: what floating-point tensors are stored in; as they are by default. Whoever reads them computes in the
            dtype of his own model.
    """
    files, digests = {}, {}
    for component, tensors in state.items():
        stored = {name: tensor.detach().cpu() for name, tensor in tensors.items()}
        if dtype is not None:
            stored = {name: one.to(dtype) if one.is_floating_point() else one for name, one in stored.items()}
        written = save({name: one.contiguous() for name, one in stored.items()})
        files[f"{component}.safetensors"] = written
        digests[component] = sha256(written).hexdigest()
    return files, digests


def described(experts: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """Role -> class, checkpoint and fingerprint of each frozen expert; one of the hub by its commit."""
    prints: dict[Path, str] = {}
    found = {}
    for role, expert in experts.items():
        path = Path(expert.checkpoint)
        if path not in prints:
            prints[path] = fingerprint(path)
        named = str(address_of(path) or shipped_name(path))
        found[role] = {"class": type(expert).__name__, "checkpoint": named, "fingerprint": prints[path]}
    return found


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a bundle.

    Raises:
        ValueError: there is none, or it isn't one of ours.
    """
    path = folder / MANIFEST
    if not path.is_file():
        near = sorted(str(found.parent) for found in folder.glob(f"*/{MANIFEST}"))
        kept = folder.with_name(folder.name + PREVIOUS)
        if (kept / MANIFEST).is_file():
            hint = f"its writer was ended while it replaced it, and the earlier one is whole: {kept}"
        else:
            hint = f"did you mean {near[0]}?" if near else "train first, or fix the path"
        raise ValueError(f"{folder}: found no {MANIFEST}, so no trained model; {hint}")
    return parse_manifest(path.read_bytes(), path)


def parse_manifest(content: bytes, path: Path) -> dict[str, Any]:
    """The manifest in a file's content.

    Args:
        content: of the file.
        path: of the file, for errors.

    Raises:
        ValueError: it isn't one of ours.
    """
    try:
        manifest = json.loads(content)
        found = manifest["format"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"{path}: damaged ({error}); copy the folder anew") from error
    if found not in READS:
        raise ValueError(
            f"{path}: found format {found}; this version reads {' and '.join(map(str, READS))}: install a fitting one"
        )
    absent = {"stage", "experts", "components", "configuration"} - manifest.keys()
    if absent:
        raise ValueError(f"{path}: damaged (found no {', '.join(sorted(absent))}); copy the folder anew")
    kinds = {"experts": dict, "components": dict, "configuration": dict | None, "stage": str}
    if wrong := [name for name, kind in kinds.items() if not isinstance(manifest[name], kind)]:
        raise ValueError(f"{path}: damaged (found another {', '.join(wrong)} than is written); copy the folder anew")
    result: dict[str, Any] = manifest
    return result


def read_components(folder: Path) -> dict[str, dict[str, Tensor]]:
    """Every component's tensors, their digests checked.

    Raises:
        ValueError: a file is missing or isn't what was written.
    """
    state = {}
    for component, digest in read_manifest(folder)["components"].items():
        path = folder / f"{component}.safetensors"
        if path.parent != folder or not path.is_file():
            raise ValueError(f"{path}: the manifest names it, but it isn't there; copy the folder anew")
        state[component] = parse_component(path.read_bytes(), digest, path)
    return state


def parse_component(content: bytes, digest: str, path: Path) -> dict[str, Tensor]:
    """The tensors in a file's content.

    Args:
        content: of the file.
        digest: that the manifest has.
        path: of the file, for errors.

    Raises:
        ValueError: it isn't what was written.
    """
    if sha256(content).hexdigest() != digest:
        raise ValueError(f"{path}: its content isn't what the manifest says; copy the folder anew")
    try:
        tensors: dict[str, Tensor] = load(content)
    except SafetensorError as error:
        raise ValueError(f"{path}: not a safetensors file ({error}); copy the folder anew") from error
    return tensors


def check_fits(
    folder: Path, manifest: Mapping[str, Any], experts: Mapping[str, Any], lora: LoraSettings | None
) -> None:
    """Holds what a bundle was trained beside against a model's own experts, and its LoRA.

    Raises:
        ValueError: they differ.
    """
    own = described(experts)
    for role, trained in manifest["experts"].items():
        if role in own and own[role]["fingerprint"] != trained["fingerprint"]:
            raise ValueError(
                f"{folder}: trained beside another {role}: {trained['class']} {trained['checkpoint']} "
                f"({trained['fingerprint'][:8]}), this model has {own[role]['class']} {own[role]['checkpoint']} "
                f"({own[role]['fingerprint'][:8]}); configure the same expert, or train its bridge anew"
            )
    _check_lora(lora, manifest, folder)


def _check_lora(lora: LoraSettings | None, manifest: Mapping[str, Any], folder: Path) -> None:
    """Compares what LoRA's update is multiplied by: its tensors alone fit an LLM that scales them otherwise."""
    if lora is None or "lora" not in manifest["components"]:
        return
    trained = renamed({"lora": manifest.get("lora") or _configured_lora(manifest["configuration"])})["lora"]
    if trained is None:  # an earlier version's, of a model composed in Python
        return
    of = LoraSettings(**{name: trained[name] for name in ("r", "lora_alpha", "method") if name in trained})
    if (of.method, of.r, of.scale) != (lora.method, lora.r, lora.scale):
        raise ValueError(
            f"{folder}: its LoRA was trained as method {of.method}, r {of.r}, lora_alpha {of.lora_alpha:g}; this "
            f"model has method {lora.method}, r {lora.r}, lora_alpha {lora.lora_alpha:g}, which would make another LLM "
            "of the same weights. Fix: configure the LLM's `lora` as it was trained."
        )


def _configured_lora(configuration: Any) -> dict[str, Any] | None:
    for name in ("backbone", "init_args", "language_model", "init_args", "lora"):
        configuration = configuration.get(name) if isinstance(configuration, dict) else None
    return configuration if isinstance(configuration, dict) else None


def composed(
    cls: type[M],
    folder: Path,
    allow: Sequence[str] = (),
    experts: Mapping[str, str | Path] | None = None,
    experts_root: str | Path | None = None,
) -> tuple[M, dict[str, Any]]:
    """The model that a bundle's configuration describes, not built yet, and that configuration.

    Args:
        cls: the model's class.
        folder: the bundle.
        allow: packages whose classes it may name, beside this one.
        experts: where experts lie, by role; see :func:`isthmus.model.relocation.place`.
        experts_root: a folder with the others.

    Raises:
        ValueError: it names another package's class, an expert isn't there, or it can't be composed.
    """
    configuration, found = located(folder, allow, experts, experts_root)
    require_there(found, folder)
    return compose(cls, found, folder), configuration


def located(
    folder: Path,
    allow: Sequence[str] = (),
    experts: Mapping[str, str | Path] | None = None,
    experts_root: str | Path | None = None,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """A bundle's configuration under today's names, and the same with its experts' paths on this machine.

    The former has the paths that the bundle has, those that were given excepted: it is what is saved with the model.

    Raises:
        ValueError: see :func:`composed`.
    """
    configuration = renamed(read_manifest(folder)["configuration"])
    if configuration is None:
        raise ValueError(
            f"{folder}: its model was composed in Python, so the manifest can't rebuild it; "
            "compose it again and call its load(folder)"
        )
    require_allowed(configuration, allow, folder / MANIFEST)
    place(configuration, experts, experts_root)
    return configuration, relocated(configuration, folder)


def compose(cls: type[M], configuration: Any, where: Path) -> M:
    """The model that a configuration describes, not built yet.

    Args:
        cls: the model's class.
        configuration: plain dictionaries and lists, as a config's ``model`` section.
        where: whose it is, for errors.

    Raises:
        ValueError: a part refuses its settings.
    """
    import jsonargparse
    from jsonargparse import ArgumentError, ArgumentParser

    # Free options are data: what looks like a class in them is not to be called. Older versions lack the setting.
    settings = getattr(jsonargparse, "set_parsing_settings", None)
    if settings is not None and "instantiate_subclass_spec_in_any" in signature(settings).parameters:
        settings(instantiate_subclass_spec_in_any=False)
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(cls, "model")
    try:
        parsed = parser.parse_object({"model": configuration})
        model: M = parser.instantiate_classes(parsed).model
    except (ArgumentError, TypeError, ValueError) as error:
        # jsonargparse wraps what a part's constructor says in all the types that it tried.
        said: BaseException = error
        while said.__cause__ is not None:
            said = said.__cause__
        raise ValueError(f"{where}: its configuration can't be composed: {said}") from error
    return model
