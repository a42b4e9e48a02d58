"""What the first release of NExT-GPT has trained, as its ``pytorch_model.pt`` holds it: read, measured, renamed.

The file holds what trained over a frozen Vicuna and a frozen ImageBind: ``llama_proj``, one linear layer for every
medium; an output projector a modality (``gen_text_hidden_fcs``, ``..._video``, ``..._audio``); LoRA, after its third
stage; and the LLM's whole embedding and head, whose last rows are the added tokens: two tags, then signal tokens of
images, videos and audio.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from isthmus.encoders.checkpoint import read_weights

PROJECTOR, EMBEDDING, HEAD = "llama_proj.", "llama_model.model.embed_tokens.weight", "llama_model.lm_head.weight"
OUTPUTS = {
    "image": "gen_text_hidden_fcs.0.",
    "video": "gen_text_hidden_fcs_video.0.",
    "audio": "gen_text_hidden_fcs_audio.0.",
}
INNER = {"queries": "query_embs", "project_in": "fc", "transformer": "tfm", "project_out": "model"}
"""Our name of an output projector's part, and the release's."""
SHOWN = 3
"""How many keys of a kind an error names."""

State = dict[str, dict[str, Tensor]]
"""By component, by name."""


@dataclass(frozen=True)
class OutputSizes:
    """Sizes of one output projector; its heads, which no tensor tells, are four in the release."""

    width: int
    encoder_layers: int
    decoder_layers: int
    feed_forward: int


@dataclass(frozen=True)
class Delta:
    """The file's tensors, under names without ``module.``, ``base_model.model.`` and ``.default``.

    Attributes:
        file: where they were read.
        tensors: by name.
        width: E of the LLM.
        outputs: by modality, those that have a projector.
        rank: of LoRA; None where there is none.
        targets: the layers' names that LoRA adapts.
    """

    file: Path
    tensors: Mapping[str, Tensor]
    width: int
    outputs: Mapping[str, OutputSizes]
    rank: int | None
    targets: tuple[str, ...]

    def component(self, component: str, shapes: Mapping[str, Tensor], first_added: int) -> dict[str, Tensor]:
        """The tensors of one of our components, in float32.

        Args:
            component: as a model's ``owned_state`` names it.
            shapes: its tensors by name; their shapes are wanted.
            first_added: the id of the first added token.

        Raises:
            ValueError: tensors are missing, or have other shapes.
        """
        found, missing, differing = {}, [], []
        for name, own in shapes.items():
            theirs, rows = _their_name(component, name)
            stored = self.tensors.get(theirs)
            if stored is None:
                missing.append(theirs)
                continue
            match rows:
                case "tags":
                    stored = stored[first_added : first_added + len(own)]
                case "last":
                    stored = stored[first_added:][-len(own) :]
                case "only":
                    stored = stored[0]
            if stored.shape != own.shape:
                differing.append(f"{theirs} {tuple(stored.shape)} instead of {tuple(own.shape)}")
            found[name] = stored.float()
        if missing or differing:
            kinds = {"missing": missing, "of another size": differing}
            listed = "; ".join(f"{len(own)} {kind}: {', '.join(own[:SHOWN])}" for kind, own in kinds.items() if own)
            raise ValueError(
                f"{self.file}: {listed}; expected what the experts that were given ask for. Fix: give the Vicuna, the "
                "ImageBind and the generators that it was trained beside, or copy the file anew."
            )
        return found


def read_delta(file: Path) -> Delta:
    """Reads the file with ``weights_only=True``, see :func:`delta_of`.

    Raises:
        ValueError: it can't be read, or isn't of NExT-GPT's first release.
    """
    if not file.is_file():
        raise ValueError(f"{file}: found no such file; expected NExT-GPT's pytorch_model.pt. Fix: correct --delta.")
    return delta_of(read_weights(file), file)


def delta_of(stored: Mapping[str, Tensor], file: Path) -> Delta:
    """The file's tensors by their own names -> what they are of, and its sizes.

    Raises:
        ValueError: they aren't of NExT-GPT's first release.
    """
    tensors = {_plain(name): tensor for name, tensor in stored.items()}
    if absent := [name for name in (f"{PROJECTOR}weight", f"{PROJECTOR}bias", EMBEDDING, HEAD) if name not in tensors]:
        raise ValueError(
            f"{file}: found {len(tensors)} tensors without {', '.join(absent)}; expected what the first release of "
            "NExT-GPT saves after a stage. Fix: give its pytorch_model.pt."
        )
    outputs = {modality: _sizes(tensors, prefix, file) for modality, prefix in OUTPUTS.items() if _has(tensors, prefix)}
    factors = {name: tensor for name, tensor in tensors.items() if name.endswith(".lora_A.weight")}
    ranks = {tensor.shape[0] for tensor in factors.values()}
    if len(ranks) > 1:
        raise ValueError(
            f"{file}: found LoRA of the ranks {', '.join(map(str, sorted(ranks)))}; expected one. Fix: copy it anew."
        )
    targets = tuple(sorted({name.split(".")[-3] for name in factors}))
    width = tensors[f"{PROJECTOR}weight"].shape[0]
    return Delta(file, tensors, width, outputs, ranks.pop() if ranks else None, targets)


def _plain(name: str) -> str:
    return name.replace("llama_model.base_model.model.", "llama_model.").replace(".default.", ".")


def _has(tensors: Mapping[str, Tensor], prefix: str) -> bool:
    return any(name.startswith(prefix) for name in tensors)


def _sizes(tensors: Mapping[str, Tensor], prefix: str, file: Path) -> OutputSizes:
    names = (f"{prefix}fc.weight", f"{prefix}tfm.encoder.layers.0.linear1.weight")
    if absent := [name for name in names if name not in tensors]:
        raise ValueError(f"{file}: 1 missing: {absent[0]}; expected a whole output projector. Fix: copy the file anew.")

    def layers(part: str) -> int:
        pattern = re.compile(re.escape(f"{prefix}tfm.{part}.layers.") + r"(\d+)\.")
        return 1 + max((int(found[1]) for name in tensors if (found := pattern.match(name))), default=0)

    into, inner = (tensors[name] for name in names)
    return OutputSizes(into.shape[0], layers("encoder"), layers("decoder"), inner.shape[0])


def _their_name(component: str, name: str) -> tuple[str, str]:
    """The release's name of a tensor of ours, and which rows: ``all``, ``tags``, ``last``, or the ``only`` one."""
    kind, _, modality = component.partition(".")
    match kind:
        case "input_projectors":
            return PROJECTOR + name.removeprefix("layer."), "all"
        case "output_projectors":
            part, _, rest = name.partition(".")
            return OUTPUTS[modality] + ".".join(filter(None, [INNER[part], rest])), "only" if not rest else "all"
        case "media_tags":
            return EMBEDDING, "tags"
        case "signal_rows":
            return HEAD if name == "run_starts" else EMBEDDING, "last"
        case _:
            return f"llama_model.{name}", "all"
