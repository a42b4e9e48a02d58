"""A trained model's folder: one safetensors file a component, and a manifest of what it was trained beside.

folder/manifest.json            format, stage, experts and their fingerprints, the model's configuration, digests
folder/input_projectors.image.safetensors, lora.safetensors, ...
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from isthmus.backbones.adapters.lora import LoraSettings
from isthmus.backbones.owned_state import State
from isthmus.cache.fingerprint import fingerprint
from isthmus.model.allowed import require_allowed
from isthmus.model.earlier_names import renamed
from isthmus.model.relocation import relocated
from isthmus.writing import PREVIOUS, write_folder

if TYPE_CHECKING:
    from isthmus.model.any_to_any import AnyToAny

FORMAT = 1
MANIFEST = "manifest.json"


def experts(model: AnyToAny) -> dict[str, dict[str, str]]:
    """Role -> class, checkpoint and fingerprint of each frozen expert."""
    found: dict[str, Any] = {"backbone": model.backbone.language_model}
    if model.input_side is not None:
        for modality in model.input_side.serving:
            found[f"encoder.{modality}"] = model.input_side.encoder(modality)
    if model.output_side is not None:
        for modality in model.output_side.serving:
            found[f"generator.{modality}"] = model.output_side.generator(modality)
    prints: dict[Path, str] = {}
    described = {}
    for role, expert in found.items():
        path = Path(expert.checkpoint)
        if path not in prints:
            prints[path] = fingerprint(path)
        described[role] = {"class": type(expert).__name__, "checkpoint": str(path), "fingerprint": prints[path]}
    return described


def save_bundle(model: AnyToAny, folder: Path, stage: str, state: State | None = None) -> Path:
    """Writes what the model has learnt, the whole folder or nothing; an earlier one is kept as ``NAME.previous``.

    Args:
        model: built; on the meta device where ``state`` is given.
        folder: the bundle's.
        stage: in which it was learnt.
        state: by component, in place of the model's own.

    Raises:
        ValueError: it can't be written; an earlier bundle is as it was.
    """
    files = {}
    digests = {}
    for component, tensors in (model.owned_state() if state is None else state).items():
        data = save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()})
        files[f"{component}.safetensors"] = data
        digests[component] = sha256(data).hexdigest()
    manifest = {
        "format": FORMAT,
        "stage": stage,
        "experts": experts(model),
        "components": digests,
        "configuration": model.configuration,
    }
    lora: LoraSettings | None = getattr(model.backbone.language_model, "lora", None)
    if lora is not None:
        manifest["lora"] = {"method": lora.method, "rank": lora.rank, "alpha": lora.alpha}
    files[MANIFEST] = (json.dumps(manifest, indent=2) + "\n").encode()
    write_folder(folder, files)
    return folder


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
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        found = manifest["format"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: damaged ({error}); copy the folder anew") from error
    if found != FORMAT:
        raise ValueError(f"{path}: found format {found}; this version reads {FORMAT}: install a fitting one")
    absent = {"stage", "experts", "components", "configuration"} - manifest.keys()
    if absent:
        raise ValueError(f"{path}: damaged (found no {', '.join(sorted(absent))}); copy the folder anew")
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
        data = path.read_bytes()
        if sha256(data).hexdigest() != digest:
            raise ValueError(f"{path}: its content isn't what the manifest says; copy the folder anew")
        try:
            state[component] = load(data)
        except SafetensorError as error:
            raise ValueError(f"{path}: not a safetensors file ({error}); copy the folder anew") from error
    return state


def load_bundle(model: AnyToAny, folder: Path, strict: bool = True) -> dict[str, Any]:
    """Copies a bundle's weights, and nothing else, into a built model; returns the manifest.

    Raises:
        ValueError: it was trained beside other experts, or doesn't fit.
    """
    manifest = read_manifest(folder)
    own = experts(model)
    for role, trained in manifest["experts"].items():
        if role in own and own[role]["fingerprint"] != trained["fingerprint"]:
            raise ValueError(
                f"{folder}: trained beside another {role}: {trained['class']} {trained['checkpoint']} "
                f"({trained['fingerprint'][:8]}), this model has {own[role]['class']} {own[role]['checkpoint']} "
                f"({own[role]['fingerprint'][:8]}); configure the same expert, or train its bridge anew"
            )
    _check_lora(model, manifest, folder)
    try:
        model.load_owned_state(read_components(folder), strict)
    except ValueError as error:
        raise ValueError(f"{folder}: {error}") from error
    return manifest


def _check_lora(model: AnyToAny, manifest: dict[str, Any], folder: Path) -> None:
    """Compares what LoRA's update is multiplied by: its tensors alone fit an LLM that scales them otherwise."""
    lora: LoraSettings | None = getattr(model.backbone.language_model, "lora", None)
    if lora is None or "lora" not in manifest["components"]:
        return
    trained = manifest.get("lora") or _configured_lora(manifest["configuration"])
    if trained is None:  # an earlier version's, of a model composed in Python
        return
    of = LoraSettings(**{name: trained[name] for name in ("rank", "alpha", "method") if name in trained})
    if (of.method, of.rank, of.scale) != (lora.method, lora.rank, lora.scale):
        raise ValueError(
            f"{folder}: its LoRA was trained as method {of.method}, rank {of.rank}, alpha {of.alpha:g}; this model has "
            f"method {lora.method}, rank {lora.rank}, alpha {lora.alpha:g}, which would make another LLM of the same "
            "weights. Fix: configure the LLM's `lora` as it was trained."
        )


def _configured_lora(configuration: Any) -> dict[str, Any] | None:
    for name in ("backbone", "init_args", "language_model", "init_args", "lora"):
        configuration = configuration.get(name) if isinstance(configuration, dict) else None
    return configuration if isinstance(configuration, dict) else None


def build_from_bundle(cls: type[AnyToAny], folder: Path, allow: Sequence[str] = ()) -> AnyToAny:
    """Composes the model that a bundle's configuration describes, and loads its weights.

    Args:
        cls: the model's class.
        folder: the bundle.
        allow: packages whose classes it may name, beside this one.

    Raises:
        ValueError: it names another package's class, can't be composed, or :func:`load_bundle` refuses it.
    """
    configuration = read_manifest(folder)["configuration"]
    if configuration is None:
        raise ValueError(
            f"{folder}: its model was composed in Python, so the manifest can't rebuild it; "
            "compose it again and call isthmus.model.bundle.load_bundle(model, folder)"
        )
    require_allowed(configuration, allow, folder / MANIFEST)
    model = compose(cls, relocated(renamed(configuration), folder), folder)
    model.configuration = configuration
    model.configure_model()
    load_bundle(model, folder)
    return model


def compose(cls: type[AnyToAny], configuration: Any, where: Path) -> AnyToAny:
    """The model that a configuration describes, not built yet.

    Args:
        cls: the model's class.
        configuration: plain dictionaries and lists, as a config's ``model`` section.
        where: whose it is, for errors.

    Raises:
        ValueError: a part refuses its settings.
    """
    from jsonargparse import ArgumentError, ArgumentParser

    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(cls, "model")
    try:
        parsed = parser.parse_object({"model": configuration})
        model: AnyToAny = parser.instantiate_classes(parsed).model
    except (ArgumentError, TypeError, ValueError) as error:
        # jsonargparse wraps what a part's constructor says in all the types that it tried.
        said: BaseException = error
        while said.__cause__ is not None:
            said = said.__cause__
        raise ValueError(f"{where}: its configuration can't be composed: {said}") from error
    return model
