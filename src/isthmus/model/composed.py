"""What a model is composed of, what of it is trained, and how that is saved and opened."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from isthmus.backbones.adapters.lora import changes_nothing
from isthmus.backbones.base import Sampling
from isthmus.backbones.named_rows import joined, named
from isthmus.backbones.owned_state import State, check_state, copy_state, state_of, whole_of
from isthmus.cache.frozen import CacheSettings
from isthmus.frozen import is_shapes_only
from isthmus.model.backbone import Backbone
from isthmus.model.bundle import check_fits, composed, read_components, read_manifest, write_bundle
from isthmus.model.input_side import InputSide
from isthmus.model.output_side import OutputSide
from isthmus.paths import user_path
from isthmus.types import Modality


class Composed(pl.LightningModule):
    """An input side, a backbone and an output side, built together. Its state is what was trained of them.

    Args:
        backbone: the LLM.
        input_side: encoders and input projectors; None for a model that takes text alone.
        output_side: generators and output projectors; None for a model that answers in text alone.
        seed: of the initial values of all that is trained.
        sampling: how answers are drawn where a request doesn't say.
        cache: where training keeps encoder features and caption conditions; None computes them each time.
        autocast: whether answers on a GPU are computed in mixed precision where no Trainer says how.

    Attributes:
        configuration: of the model, where a configuration composed it: a saved model is opened by it.
    """

    def __init__(
        self,
        backbone: Backbone,
        input_side: InputSide | None = None,
        output_side: OutputSide | None = None,
        seed: int = 0,
        sampling: Sampling | None = None,
        cache: CacheSettings | None = None,
        autocast: bool = True,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.input_side = input_side
        self.output_side = output_side
        self.seed = seed
        self.sampling = sampling or Sampling()
        self.cache_settings = cache
        self.autocast = autocast
        self.configuration: dict[str, Any] | None = None
        self._is_built = False
        backbone.language_model.serve([*self.inputs, *self.outputs])
        self.register_load_state_dict_pre_hook(with_present_names)  # type: ignore[no-untyped-call]  # torch has no types for it

    def configure_model(self, later: bool = False) -> None:
        """Builds all that is trained, and the LLM; frozen experts load on first use.

        Lightning calls it; twice is once. Within :func:`isthmus.frozen.shapes_only` no weights are read.

        Args:
            later: the LLM's layers are on the meta device, to be sharded before ``language_model.fill`` reads them.
        """
        if self._is_built:
            return
        # Initial values depend on the model's own seed alone, so that separate runs and one run start alike.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            self.backbone.language_model.materialize(is_shapes_only(), later)
            if self.input_side is not None:
                self.input_side.build(self.backbone.width, self.backbone.language_model.fused)
            if self.output_side is not None:
                self.output_side.build(self.backbone.width, self.backbone.language_model.vocabulary.signal_counts)
        self._is_built = True

    @property
    def inputs(self) -> list[Modality]:
        """The media that it takes."""
        return [] if self.input_side is None else list(self.input_side.serving)

    @property
    def outputs(self) -> list[Modality]:
        """The media that it makes."""
        return [] if self.output_side is None else list(self.output_side.serving)

    def owned(self) -> dict[str, dict[str, str]]:
        """What is trained, by component: by its name in a file, where the model holds a tensor."""
        sides = {"input_side": self.input_side, "output_side": self.output_side}
        parts: dict[str, Any] = {**sides, "backbone.language_model": self.backbone.language_model}
        return {
            component: {name: f"{place}.{path}" for name, path in names.items()}
            for place, part in parts.items()
            if part is not None
            for component, names in part.owned().items()
        }

    def parts(self) -> dict[str, dict[str, nn.Parameter]]:
        """What can be trained: part, such as ``input_projectors.image`` or ``lora`` -> its parameters by name."""
        held, within = dict(self.named_parameters(remove_duplicate=False)), self.backbone.language_model.parts()
        found = {
            part: {name: held[path] for name, path in names.items() if path in held}
            for part, names in self.owned().items()
            if part not in within
        }
        return found | {part: {str(at): own for at, own in enumerate(owned)} for part, owned in within.items()}

    def named_owned(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Every trained parameter, under ``part:name``."""
        for part, parameters in self.parts().items():
            for name, parameter in parameters.items():
                yield f"{part}:{name}", parameter

    def owned_state(self) -> dict[str, dict[str, Tensor]]:
        """What was trained here, by component; the tensors share memory with the parameters."""
        return state_of(self, self.owned())

    def load_owned_state(self, state: State, strict: bool = True) -> None:
        """Copies :meth:`owned_state` of a like model into this one, all of it or nothing.

        Args:
            state: by component.
            strict: every component of the model must be there. Otherwise absent ones keep their initial values: a stage
                that adds LoRA or a modality goes on from one without. A teacher's weights are passed over by a model
                without one: it has no part in answering.

        Raises:
            ValueError: a component is unknown or missing, or tensors differ in name or shape; nothing is copied then.
        """
        own = self.owned_state()
        state = joined(state, own, self.backbone.language_model.vocabulary, strict)
        copy_state(own, {part: state[part] for part in state if part in own or part != "teacher"}, strict)

    def experts(self) -> dict[str, Any]:
        """The frozen experts by role: ``backbone``, ``encoder.image``, ``generator.audio``."""
        found: dict[str, Any] = {"backbone": self.backbone.language_model}
        if self.input_side is not None:
            found |= {f"encoder.{modality}": self.input_side.encoder(modality) for modality in self.inputs}
        if self.output_side is not None:
            found |= {f"generator.{modality}": self.output_side.generator(modality) for modality in self.outputs}
        return found

    def save(
        self,
        folder: Path,
        stage: str,
        writes: bool = True,
        state: State | None = None,
        data: Mapping[str, Any] | None = None,
    ) -> Path:
        """Writes what was trained, the whole folder or nothing; an earlier one is kept as ``NAME.previous``.

        Args:
            folder: where to.
            stage: that was trained last.
            writes: whether this process does. Where the model is sharded all have to call this.
            state: by component, in place of the model's own, which may be on the meta device then.
            data: what it was learnt from, by source.

        Raises:
            ValueError: it can't be written; an earlier folder is as it was.
        """
        if state is None:
            owned = self.owned_state().items()
            state = {part: {name: whole_of(own) for name, own in names.items()} for part, names in owned}
        if not writes:
            return folder
        state = named(state, self.backbone.language_model.vocabulary)
        lora = getattr(self.backbone.language_model, "lora", None)
        return write_bundle(folder, stage, state, self.experts(), lora, self.configuration, data)

    def load(self, folder: Path, strict: bool = True) -> dict[str, Any]:
        """Copies the weights that :meth:`save` wrote, and nothing else, into this built model; returns the manifest.

        Args:
            folder: a trained stage's.
            strict: as in :meth:`load_owned_state`. Otherwise LoRA that no stage has trained yet is left out: the LLM
                may have adapters of another kind from here on.

        Raises:
            ValueError: it was trained beside other experts, or doesn't fit.
        """
        manifest, state = read_manifest(folder), read_components(folder)
        if not strict and changes_nothing(state.get("lora", {})):
            del state["lora"], manifest["components"]["lora"]
        check_fits(folder, manifest, self.experts(), getattr(self.backbone.language_model, "lora", None))
        try:
            self.load_owned_state(state, strict)
        except ValueError as error:
            raise ValueError(f"{folder}: {error}") from error
        return manifest

    @classmethod
    def from_checkpoint(
        cls,
        folder: str | Path,
        device: str | torch.device = "cpu",
        allow: Sequence[str] = (),
        experts: Mapping[str, str | Path] | None = None,
        experts_root: str | Path | None = None,
    ) -> Self:
        """A model, built and ready to answer, from a folder that training wrote.

        Args:
            folder: the trained stage's.
            device: where to.
            allow: packages whose classes the folder may name beside this one's, as ``["my_package"]``: opening it runs
                their code.
            experts: where experts lie on this machine, by role: ``{"backbone": "/models/vicuna-7b"}``. Roles are
                ``backbone``, ``encoder.MODALITY`` and ``generator.MODALITY``.
            experts_root: a folder with the other experts, under their configured paths or the ends of these. What is
                in neither is sought below the folders above ``folder``, and from the present one.

        Raises:
            ValueError: the folder isn't one, is damaged, names a class that isn't allowed, or its experts aren't there
                or aren't those that it was trained beside, by their fingerprints.
        """
        path = user_path(folder)
        model, configuration = composed(cls, path, allow, experts, experts_root)
        model.configuration = configuration
        model.configure_model()
        model.load(path)
        return model.to(device).eval()

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """As torch has it; what doesn't fit is said by component, and nothing is copied then."""
        self.check_loaded(state_dict, strict)
        return super().load_state_dict(state_dict, strict, assign)

    def check_loaded(self, state: Mapping[str, Any], strict: bool = True, prefix: str = "") -> None:
        """Holds a ``state_dict`` of this model or of an earlier version against the model.

        Raises:
            ValueError: components, names or shapes differ.
        """
        places = {path: (part, name) for part, names in self.owned().items() for name, path in names.items()}
        found: dict[str, dict[str, Tensor]] = {}
        for key, tensor in state.items():
            path = key.removeprefix(prefix)
            part, name = places.get(path) or (path.partition(":") if ":" in path else path.rpartition("."))[::2]
            found.setdefault(part, {})[name] = tensor
        check_state(self.owned_state(), found, strict)


def with_present_names(model: Composed, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """Gives a state's tensors the names that they have now: earlier versions had ``part:name``."""
    for part, names in model.owned().items():
        for name, path in names.items():
            if (key := f"{prefix}{part}:{name}") in state:
                state[prefix + path] = state.pop(key)
