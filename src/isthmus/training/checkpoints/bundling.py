"""A run's checkpoint of any engine -> a trained model's folder, as the end of its stage writes one."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import yaml

from isthmus.earlier.options import renamed
from isthmus.frozen import shapes_only
from isthmus.model import AnyToAny
from isthmus.model.allowed import require_allowed
from isthmus.model.bundle import compose
from isthmus.model.composed import with_present_names
from isthmus.model.relocation import relocated, require_there
from isthmus.training.averaging import KEY as AVERAGE
from isthmus.training.checkpoints.found import SUFFIX, fault_of
from isthmus.training.checkpoints.shard_reader import fill, read_structure
from isthmus.training.module import with_model_prefix

PREFIX = "model."
"""Under which a module in training holds its model."""
SWITCH = "StageSwitch"
"""Under which a checkpoint says which stage it is of."""


def bundle(checkpoint: Path, out: Path, allow: Sequence[str] = (), model: AnyToAny | None = None) -> Path:
    """Writes what a checkpoint's stage has learnt so far; its average, where the stage has one. Starts no processes.

    Args:
        checkpoint: a file, or a folder of shards that any number of processes wrote.
        out: the folder to write; an earlier one is kept as ``NAME.previous``.
        allow: packages whose classes the run's configuration may name beside this one's.
        model: that learns, not built. Where not given, the run's ``config.yaml`` describes it.

    Raises:
        ValueError: the checkpoint isn't whole, or isn't of this model; or the configuration can't be composed.
    """
    if (fault := fault_of(checkpoint)) is not None:
        raise ValueError(f"{checkpoint}: {fault}. Fix: name a whole checkpoint of the run.")
    structure = read_structure(checkpoint)
    state = structure.get("callbacks", {}).get(SWITCH)
    if state is None:
        raise ValueError(
            f"{checkpoint}: found no stage in it; expected a checkpoint of a run in stages, by this package."
        )
    learnt = fill(checkpoint, {part: structure[part] for part in ("state_dict", AVERAGE) if part in structure})
    weights = learnt["state_dict"] | learnt.get(AVERAGE, {"tensors": {}})["tensors"]
    with shapes_only():
        model = configured(checkpoint, allow) if model is None else model
        model.configure_model()
    # As a run that goes on from an earlier version's checkpoint has them renamed.
    with_model_prefix(None, weights, "")
    with_present_names(model, weights, PREFIX)
    try:
        model.check_loaded(weights, prefix=PREFIX)
    except ValueError as error:
        raise ValueError(f"{checkpoint}: {error}") from error
    owned = model.owned().items()
    trained = {part: {name: weights[PREFIX + path] for name, path in names.items()} for part, names in owned}
    return model.save(out, state["names"][state["index"]], state=trained)


def configured(checkpoint: Path, allow: Sequence[str] = ()) -> AnyToAny:
    """The model of the run that wrote a checkpoint, not built yet.

    Raises:
        ValueError: the run's configuration isn't there, names a class that isn't allowed, or can't be composed.
    """
    path = checkpoint.absolute().parents[1] / "config.yaml"
    try:
        configuration: Any = renamed(yaml.safe_load(path.read_text(encoding="utf-8"))["model"])
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError) as error:
        raise ValueError(
            f"{path}: it can't be read ({type(error).__name__}: {error}); expected the configuration of the run that "
            f"wrote {checkpoint}. Fix: name a checkpoint in its run's folder, RUN/checkpoints/NAME{SUFFIX}."
        ) from error
    require_allowed(configuration, allow, path)
    found = relocated(configuration, checkpoint)
    require_there(found, checkpoint)
    model = compose(AnyToAny, deepcopy(found), path)
    model.configuration = found
    return model
