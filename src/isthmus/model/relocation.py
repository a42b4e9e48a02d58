"""Where a model's experts lie: found again from where its bundle lies, or placed by whoever opens it."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from difflib import get_close_matches
from glob import escape
from importlib import import_module
from pathlib import Path
from typing import Any

from isthmus.paths import shipped_path, user_path

CHECKPOINT = "checkpoint"
ELSEWHERE = "://"
"""What stands in the address of an expert that isn't on a disk."""


@dataclass(frozen=True)
class Held:
    """A part's settings that name a checkpoint.

    Attributes:
        place: the keys that lead to it, without ``init_args``: ``("input_side", "encoders")``.
        settings: the dictionary that holds the ``checkpoint``.
        class_path: of the part.
    """

    place: tuple[str, ...]
    settings: dict[str, Any]
    class_path: str

    @property
    def checkpoint(self) -> str:
        """As it is configured."""
        return str(self.settings[CHECKPOINT])

    def is_absent(self) -> bool:
        """Whether it is a path at which nothing lies."""
        return ELSEWHERE not in self.checkpoint and not shipped_path(self.checkpoint).exists()

    @property
    def roles(self) -> list[str]:
        """By what names a user places it: ``backbone``, ``encoder.image``, ``generator.audio``; or by its place."""
        match self.place:
            case ("backbone", "language_model"):
                return ["backbone"]
            case ("input_side", "encoders"):
                return [f"encoder.{modality}" for modality in self._modalities()]
            case ("output_side", "generators"):
                return [f"generator.{modality}" for modality in self._modalities()]
            case _:
                return [".".join(self.place)]

    def _modalities(self) -> list[str]:
        if (named := self.settings.get("modalities")) is not None:
            return [str(modality) for modality in named]
        module, _, name = self.class_path.rpartition(".")
        kind = getattr(import_module(module), name)
        return [str(each) for each in getattr(kind, "modalities", None) or [kind.modality]]


def held(value: Any, place: tuple[str, ...] = (), class_path: str = "") -> Iterator[Held]:
    """All settings of a configuration that name a checkpoint.

    Args:
        value: plain dictionaries and lists, as a manifest holds them, or namespaces, as a command line parses them.
        place: the keys that lead here.
        class_path: of the part that this belongs to.
    """
    if isinstance(value, list | tuple):
        for each in value:
            yield from held(each, place, class_path)
        return
    settings = vars(value) if isinstance(value, Namespace) else value
    if not isinstance(settings, dict):
        return
    class_path = settings.get("class_path", class_path)
    if isinstance(settings.get(CHECKPOINT), str | Path):
        yield Held(place, settings, class_path)
    for key, each in settings.items():
        yield from held(each, place if key == "init_args" else (*place, key), class_path)


def relocated(configuration: Any, bundle: Path) -> Any:
    """A copy of the configuration, in which a ``checkpoint`` that lies below a parent of the bundle is absolute.

    A notebook or a service seldom starts where training did, and ``runs/`` and ``checkpoints/`` mostly share a folder:
    the nearest parent that has the checkpoint wins. What none has stays relative to the present folder.

    Args:
        configuration: plain dictionaries and lists, as a manifest holds them.
        bundle: the trained model's folder.
    """
    configuration = deepcopy(configuration)
    # As it is named, then as it really lies: runs/ may be a link to another disk.
    parents = [*bundle.absolute().parents, *bundle.resolve().parents]
    for part in held(configuration):
        there = (parent / part.checkpoint for parent in parents)
        part.settings[CHECKPOINT] = next((str(path) for path in there if path.exists()), part.checkpoint)
    return configuration


def place(configuration: Any, experts: Mapping[str, str | Path] | None, root: str | Path | None) -> list[str]:
    """Changes the checkpoints of a configuration to where they lie on this machine.

    Args:
        configuration: see :func:`held`; changed.
        experts: role -> path. A role is ``backbone``, ``encoder.MODALITY``, ``generator.MODALITY``, or the dotted place
            of another part with a checkpoint.
        root: a folder with the other experts. Each is sought by its configured path, then by ever fewer of its last
            names: ``checkpoints/llm/vicuna``, ``llm/vicuna``, ``vicuna``; then by the last one in the root's own
            folders, where only one of these has it. What isn't there is left as it is.

    Returns:
        The roles that were placed.

    Raises:
        ValueError: an unknown role, a path with nothing there, or a root that is no folder.
    """
    parts = list(held(configuration))
    placed = [] if root is None else _below(parts, user_path(root))
    if not experts:
        return placed
    by_role = {role: part for part in parts for role in part.roles}
    taken: dict[int, str] = {}
    for role, named in experts.items():
        if role not in by_role:
            near = get_close_matches(role, by_role, 1)
            raise ValueError(
                f"experts: found the role '{role}'; expected one of {_listed(parts)}. Fix: "
                + (f"did you mean {near[0]}?" if near else "name one of these.")
            )
        part, path = by_role[role], str(named) if ELSEWHERE in str(named) else str(user_path(named).absolute())
        if ELSEWHERE not in path and not Path(path).exists():
            raise ValueError(
                f"experts: {role}={named}: found nothing there; expected the expert that is configured as "
                f"{part.checkpoint}. Fix: correct the path."
            )
        if (other := taken.setdefault(id(part.settings), path)) != path:
            raise ValueError(
                f"experts: found {other} and {path} for {', '.join(part.roles)}; expected one path, since they are one "
                "expert. Fix: give one of them."
            )
        part.settings[CHECKPOINT] = path
        placed += [other for other in part.roles if other not in placed]
    return placed


def require_there(configuration: Any, where: Path) -> None:
    """Checks that every checkpoint of a configuration is there.

    Raises:
        ValueError: some aren't; the message names each of them.
    """
    absent = [part for part in held(configuration) if part.is_absent()]
    if absent:
        raise ValueError(
            f"{where}: found no {_listed(absent)}, neither here nor below a folder above that one. Fix: say where they "
            "are: --experts ROLE=PATH or --experts_root FOLDER on the command line, experts={...} or experts_root in "
            "Python."
        )


def _below(parts: Sequence[Held], root: Path) -> list[str]:
    if not root.is_dir():
        raise ValueError(f"experts_root: {root}: found no such folder; expected one with experts. Fix: correct it.")
    placed = []
    for part in parts:
        names = [] if ELSEWHERE in part.checkpoint else [name for name in Path(part.checkpoint).parts if name != "/"]
        found = [path for first in range(len(names)) if (path := root.joinpath(*names[first:])).exists()]
        if names and not found and len(within := list(root.glob(f"*/{escape(names[-1])}"))) == 1:
            found = within  # what is handed on names an expert by its last name: checkpoints/llm/vicuna is vicuna there
        if found:
            path = found[0]
            part.settings[CHECKPOINT] = str(path.absolute())
            placed += part.roles
    return placed


def _listed(parts: Sequence[Held]) -> str:
    return ", ".join(f"{' = '.join(part.roles)} ({part.checkpoint})" for part in parts)
