"""Names of modalities. Whoever brings a new one defines it beside its encoder or generator, and nowhere else."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar, TypeGuard

import yaml

from isthmus.modalities.kinds import Kind, Reference, resolved

if TYPE_CHECKING:
    from isthmus.modalities.kinds import Array

RESERVED = ("text", "type", "caption", "rate", "role", "content")
"""Words that mean something else in a conversation."""


@dataclass(frozen=True)
class Spec:
    """Everything that the system knows of a modality. What isn't given is the kind's.

    Functions may be given as ``module:name``, so that their libraries load when they are first needed.

    Args:
        name: the word for ``type`` in conversations, ``<name>`` its tag for the LLM, ``--name`` its option.
        kind: what its arrays are.
        word: what sentences call one.
        signals: how many signal tokens call for one.
        seems: the verb of "What does this ... show?".
        plural: the field of several in sets that list them.
        read, write, endings, view, measures: instead of the kind's; see :class:`~isthmus.modalities.Kind`.
        exact: the ending and the writer of files that lose nothing; the first ending and ``write`` where None.
        doubts: medium, its file, the conversation's words -> pairs of a kind of finding and what was found, for lint.
        traits: medium, its file -> what not all media of the modality have, which lint counts.
        check: an array of the kind -> whether it can be of this modality; ``expected`` says which arrays can.
        expected: see ``check``.

    Raises:
        ValueError: a name that can't be one.
    """

    name: str
    kind: Kind
    word: str
    signals: int = 8
    seems: str = "show"
    plural: str = ""
    read: Reference | None = None
    write: Reference | None = None
    endings: tuple[str, ...] = ()
    exact: tuple[str, Reference] | None = None
    view: Reference | None = None
    measures: Reference | None = None
    doubts: Reference | None = None
    traits: Reference | None = None
    check: Callable[[Array], bool] | None = None
    expected: str = ""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z][a-z0-9_]*", self.name) or self.name in RESERVED:
            raise ValueError(
                f"modality: found the name {self.name!r}; expected a small letter and more of them, digits or _, and "
                f"none of {', '.join(RESERVED)}. Fix: choose another name."
            )
        if self.signals < 1 or not self.word:
            raise ValueError(
                f"modality {self.name}: found {self.signals} signal tokens and the word {self.word!r}; expected at "
                "least one token and a word. Fix: give both."
            )

    def accepts(self, array: Array, rate: float | None) -> bool:
        """Whether an array and its rate are a medium of this modality."""
        return self.kind.accepts(array, rate) and (self.check is None or self.check(array))

    @property
    def array(self) -> str:
        """The array in words."""
        return self.expected or self.kind.expected

    @property
    def article(self) -> str:
        """Before the word: "a" or "an"."""
        return "an" if self.word[0] in "aeiouAEIOU" or self.word.startswith("IMU") else "a"

    @property
    def listed(self) -> str:
        """The field of several in sets that list them."""
        return self.plural or f"{self.name}s"

    @property
    def file_endings(self) -> tuple[str, ...]:
        """Of files that are written; the first where a name is made up."""
        return self.endings or self.kind.endings

    @property
    def exact_ending(self) -> str:
        """Of files that lose nothing."""
        return self.file_endings[0] if self.exact is None else self.exact[0]

    def function(self, use: str) -> Callable[..., Any]:
        """The function for ``read``, ``write``, ``view``, ``measures``, ``doubts`` or ``traits``."""
        own: Reference | None = getattr(self, use)
        return resolved(getattr(self.kind, use, _nothing) if own is None else own)

    def write_exactly(self, media: Any, path: Any) -> None:
        """Writes a file with :attr:`exact_ending`."""
        (self.function("write") if self.exact is None else resolved(self.exact[1]))(media, path)


def _nothing(*_: Any) -> tuple[()]:
    return ()


class Modality(str):
    """What a piece of content is: text, or a medium that has a :class:`Spec`. Of equal names there is one object.

    ``Modality("image")`` is ``Modality.IMAGE``. A new one is defined beside the class that reads or makes it::

        TACTILE = Modality.define(Spec("tactile", GRID, word="pressure map"))

        class PressureEncoder(Encoder):
            modalities = (TACTILE,)

    A config that names the class loads its module, and so defines the modality. Pickled, it names that module.

    Args:
        name: of a modality that is defined.

    Raises:
        ValueError: none is called so.
    """

    __slots__ = ()
    TEXT: ClassVar[Modality]
    IMAGE: ClassVar[Modality]
    VIDEO: ClassVar[Modality]
    AUDIO: ClassVar[Modality]
    POINTS: ClassVar[Modality]

    def __new__(cls, name: str) -> Modality:
        found = _MODALITIES.get(name) if isinstance(name, str) else None
        if found is None:
            raise ValueError(
                f"modality: found {str(name)[:80]!r}; expected one of {', '.join(_MODALITIES)}. Fix: rename it, or "
                "name the encoder or generator class that brings it by its class_path in the config."
            )
        return found

    @classmethod
    def define(cls, spec: Spec) -> Modality:
        """The modality of a specification, known by its name from now on. Its module may be run again (a notebook).

        Raises:
            ValueError: another module has defined one of this name.
        """
        home = sys._getframe(1).f_globals["__name__"]
        name = spec.name
        if name in _MODALITIES and _HOMES[name] != home:
            raise ValueError(
                f"modality {name}: found a second definition in {home}; {_HOMES[name]} has defined it. Fix: choose "
                "another name, or import it from there."
            )
        if name not in _MODALITIES:
            _MODALITIES[name] = str.__new__(cls, name)
            _HOMES[name] = home
        _SPECS[name] = spec
        # Those that ship keep their order; what parts bring stands behind them by name, in whatever order they load.
        shipped = [one for one in _SPECS if _is_shipped(one)]
        _MEDIA[:] = [_MODALITIES[one] for one in (*shipped, *sorted(_SPECS.keys() - set(shipped)))]
        return _MODALITIES[name]

    @property
    def spec(self) -> Spec:
        """Its specification.

        Raises:
            ValueError: it is text, which is no medium.
        """
        found = _SPECS.get(str(self))
        if found is None:
            raise ValueError(f"modality: found {self}; expected a medium: {', '.join(_SPECS)}. Fix: give one of them.")
        return found

    @property
    def kind(self) -> Kind:
        """The kind of its media."""
        return self.spec.kind

    def __reduce__(self) -> tuple[Any, ...]:
        name = str(self)
        return (Modality, (name,)) if _is_shipped(name) else (_restored, (name, _HOMES[name]))


def _restored(name: str, home: str) -> Modality:
    """A modality in a process whose pickle names it before the class that brings it."""
    if name not in _MODALITIES:
        import_module(home)
    return Modality(name)


_MODALITIES: dict[str, Modality] = {}
_SPECS: dict[str, Spec] = {}
_HOMES: dict[str, str] = {}
_MEDIA: list[Modality] = []

# Among the defaults of a part that a config names: written as the word that it is.
yaml.SafeDumper.add_representer(Modality, lambda dumper, modality: dumper.represent_str(str(modality)))

_MODALITIES["text"] = Modality.TEXT = str.__new__(Modality, "text")
_HOMES["text"] = "isthmus.modalities.names"


def _is_shipped(name: str) -> bool:
    return _HOMES[name].startswith("isthmus.modalities.")


def known_media() -> tuple[Modality, ...]:
    """Every modality that isn't text: those that ship, then, by name, those that parts have brought."""
    return tuple(_MEDIA)


def is_medium(name: object) -> TypeGuard[str]:
    """Whether a word names a medium."""
    return isinstance(name, str) and name in _SPECS
