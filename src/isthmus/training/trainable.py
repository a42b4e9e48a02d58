"""Freezing as one explicit call: what trains, what is frozen, and how much of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from isthmus.model import AnyToAny


def select_parts(model: AnyToAny, wanted: Sequence[str], stage: str) -> list[str]:
    """The model's parts that the names stand for.

    Raises:
        ValueError: a name stands for none.
    """
    chosen: list[str] = []
    known = list(model.parts())
    for name in wanted:
        matches = [part for part in known if part == name or part.startswith(name + ".")]
        if not matches:
            raise ValueError(
                f"stage '{stage}': trains names '{name}', which this model doesn't have; its parts are "
                f"{', '.join(known) or 'none'}. Fix: take it out of the stage's trains, or configure the part."
            )
        chosen += [part for part in matches if part not in chosen]
    return chosen


def set_trainable(model: AnyToAny, wanted: Sequence[str], stage: str, dropout: bool = True) -> dict[str, int]:
    """Sets gradients and modes absolutely: the chosen parts train, all else is frozen and in eval mode.

    Args:
        model: built.
        wanted: names of parts.
        stage: for messages.
        dropout: whether what trains is in train mode; in eval mode otherwise, as all else.

    Returns:
        Part -> how many of its parameters train.

    Raises:
        ValueError: see :func:`select_parts`.
    """
    chosen = select_parts(model, wanted, stage)
    model.requires_grad_(False)
    model.eval()
    counts: dict[str, int] = {}
    for part, parameters in model.parts().items():
        if part in chosen:
            for parameter in parameters.values():
                parameter.requires_grad_(True)
            counts[part] = sum(parameter.numel() for parameter in parameters.values())
    # A projector trains in train mode; the LLM decides by itself which of its adapters do.
    model.training = True
    model.backbone.train(dropout)
    for side, prefix in ((model.input_side, "input_projectors"), (model.output_side, "output_projectors")):
        if side is not None:
            for name, projector in side.projectors.items():
                projector.train(dropout and f"{prefix}.{name}" in chosen)
    if model.input_side is not None and model.input_side.teacher is not None:
        model.input_side.teacher.train(dropout and "teacher" in chosen)
    return counts


def describe_trained(model: AnyToAny, counts: Mapping[str, int]) -> str:
    """What trains, in words: ``input_projectors, media_tags (298,496 parameters)``.

    Args:
        model: built.
        counts: of :func:`set_trainable`.
    """
    names: list[str] = []
    for part in counts:
        family = part.partition(".")[0]
        is_whole = all(each in counts for each in model.parts() if each.partition(".")[0] == family)
        name = family if is_whole else part
        names += [] if name in names else [name]
    return f"{', '.join(names)} ({sum(counts.values()):,} parameters)"


def check_optimizer(model: AnyToAny, optimizer_parameters: set[int], stage: str) -> None:
    """Asserts that the optimizer holds exactly what the stage trains.

    Raises:
        RuntimeError: it doesn't; going on would train the wrong part in silence.
    """
    trained = {id(parameter): name for name, parameter in model.named_owned() if parameter.requires_grad}
    if set(trained) != optimizer_parameters:
        missing = [name for key, name in trained.items() if key not in optimizer_parameters]
        raise RuntimeError(
            f"stage '{stage}': the optimizer holds {len(optimizer_parameters)} parameters, expected {len(trained)}"
            + (f"; without {missing[0]}" if missing else "")
            + ". Resume with the stages that the run was started with."
        )
