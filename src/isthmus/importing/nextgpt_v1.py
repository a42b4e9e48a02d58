"""NExT-GPT's first release -> a folder to chat with, to go on training from, and to measure like any of ours.

OUT/language_model/        Vicuna with the embedding and the head that the release has trained whole
OUT/instruction_tuning/    the bundle: projectors, added tokens' rows, LoRA
OUT/nextgpt.yaml           the same model as a config, and a stage that goes on with the release's own losses
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import yaml

from isthmus.backbones import CausalBackbone
from isthmus.frozen import shapes_only
from isthmus.importing.nextgpt_delta import EMBEDDING, HEAD, Delta, State, read_delta
from isthmus.model import AnyToAny
from isthmus.model.bundle import compose
from isthmus.model.relocation import relocated
from isthmus.writing import whole_folder, write_file

SIGNALS = {"image": 4, "video": 24, "audio": 8}
"""The release's signal tokens a medium."""
TAGS = 2
"""``<Img>`` and ``</Img>``, around any medium."""
TEMPLATE, STOP = "nextgpt-v1", "\n###"
LANGUAGE_MODEL = "language_model"
"""The LLM's folder, beside the bundle's: a bundle finds it there wherever both are moved to."""
GENERATORS: dict[str, tuple[str, dict[str, Any]]] = {
    "image": ("isthmus.generators.image.stable_diffusion.StableDiffusion", {}),
    "video": (
        "isthmus.generators.video.zeroscope.ZeroScope",
        {"num_frames": 24, "fps": 8, "height": 320, "width": 576},
    ),
    "audio": ("isthmus.generators.audio.audioldm.AudioLDM", {"seconds": 9.0}),
}
"""Each modality's class, and what the release asks of it."""


@dataclass(frozen=True)
class Source:
    """What to import.

    Attributes:
        delta: the release's ``pytorch_model.pt``.
        vicuna: the LLM's folder that it was trained over.
        imagebind: ``imagebind_huge.pth``, or a folder in its format.
        generators: by modality, the folder of its diffusers pipeline. Outputs without one are left out.
        lora_alpha: LoRA's alpha, which no tensor tells.
        signals: signal tokens a medium.
    """

    delta: Path
    vicuna: Path
    imagebind: Path
    generators: Mapping[str, Path] = field(default_factory=dict)
    lora_alpha: float = 32
    signals: Mapping[str, int] = field(default_factory=lambda: dict(SIGNALS))


@dataclass(frozen=True)
class Imported:
    """What was written: the bundle's folder, its config, and the modalities that it takes and makes."""

    bundle: Path
    config: Path
    outputs: list[str]
    left_out: list[str]


def import_nextgpt_v1(source: Source, out: Path) -> Imported:
    """Writes ``out``. All sizes are compared before anything is written.

    Raises:
        ValueError: ``out`` holds something, a file can't be read, or what it holds doesn't fit the experts.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"{out}: found files there; expected a new folder. Fix: choose another --out.")
    if not source.imagebind.exists():
        raise ValueError(f"{source.imagebind}: found no such file or folder; expected ImageBind. Fix: download it.")
    delta = read_delta(source.delta)
    outputs = [modality for modality in delta.outputs if modality in source.generators]
    state = fitted(source, delta)
    stage = "instruction_tuning" if delta.rank else "decoder_alignment" if delta.outputs else "encoder_alignment"
    _write_language_model(source.vicuna, delta, out / LANGUAGE_MODEL)
    bundle = out / stage
    _write_bundle(_configuration(source, delta, LANGUAGE_MODEL, outputs), state, bundle, stage)
    config = out / "nextgpt.yaml"
    settings = _configuration(source, delta, str(out / LANGUAGE_MODEL), outputs)
    write_file(config, _config(settings, state, out, stage).encode())
    return Imported(bundle, config, outputs, [own for own in delta.outputs if own not in outputs])


def fitted(source: Source, delta: Delta) -> State:
    """What our model of the source's experts owns, by component, out of the delta. Nothing else is read.

    Raises:
        ValueError: an expert's configuration can't be read, or the delta has other sizes.
    """
    outputs = [modality for modality in delta.outputs if modality in source.generators]
    settings = _configuration(source, delta, str(source.vicuna), outputs)
    language_model = settings["backbone"]["init_args"]["language_model"]["init_args"]
    language_model["chat_template"] = TEMPLATE  # of the folder that is written it is the folder's own
    with shapes_only():
        model = _composed(settings, source.vicuna)
    first = model.backbone.language_model.vocabulary.base_size
    _check_rows(delta, first, source)
    return {part: delta.component(part, own, first) for part, own in model.owned_state().items()}


def _configuration(source: Source, delta: Delta, checkpoint: str, outputs: list[str]) -> dict[str, Any]:
    """The model as a config has it.

    All settings of a part are named that another class has in the default config too: those would be taken over.
    """
    language_model: dict[str, Any] = {
        "checkpoint": checkpoint,
        "signals": dict(source.signals),
        "stop_strings": [STOP],
        "nextgpt_v1_tokens": True,
    }
    if delta.rank is not None:
        lora = {
            "r": delta.rank,
            "lora_alpha": source.lora_alpha,
            "lora_dropout": 0.1,
            "target_modules": list(delta.targets),
        }
        language_model["lora"] = lora
    return {
        "input_side": _part(
            "isthmus.model.InputSide",
            encoders=[_part("isthmus.encoders.imagebind.ImageBind", checkpoint=str(source.imagebind))],
            projectors={"image": _part("isthmus.input_projectors.Linear", positions_per_token=1)},
            shared={"video": "image", "audio": "image"},
        ),
        "backbone": _part(
            "isthmus.model.Backbone",
            language_model=_part("isthmus.backbones.CausalBackbone", **language_model),
            max_length=512,
        ),
        "output_side": _part(
            "isthmus.model.OutputSide",
            standardised=False,
            generators=[
                _part(
                    GENERATORS[m][0],
                    checkpoint=str(source.generators[m]),
                    num_inference_steps=50,
                    guidance_scale=7.5,
                    **GENERATORS[m][1],
                )
                for m in outputs
            ],
            projectors={
                m: _part("isthmus.output_projectors.TinyTransformer", heads=4, dropout=0.0, **vars(delta.outputs[m]))
                for m in outputs
            },
        )
        if outputs
        else None,
    }


def _part(class_path: str, **init_args: Any) -> dict[str, Any]:
    return {"class_path": class_path, "init_args": init_args}


def _composed(configuration: dict[str, Any], where: Path) -> AnyToAny:
    model = compose(AnyToAny, configuration, where)
    model.configure_model()
    return model


def _check_rows(delta: Delta, first: int, source: Source) -> None:
    """Raises a ValueError unless embedding and head have the LLM's rows, and then those of the added tokens."""
    wanted = (first + TAGS + sum(source.signals.values()), delta.width)
    for name in (EMBEDDING, HEAD):
        if (found := tuple(delta.tensors[name].shape)) != wanted:
            raise ValueError(
                f"{delta.file}: found {name} {found}; expected {wanted}: the {first} rows of {source.vicuna}, {TAGS} "
                f"tags, and signal tokens {dict(source.signals)}, as wide as llama_proj. Fix: give the Vicuna that it "
                "was trained over, or its counts of signal tokens."
            )


@torch.no_grad()
def _write_language_model(vicuna: Path, delta: Delta, folder: Path) -> None:
    """Vicuna's folder anew, with its own rows of the embedding and the head as the release has trained them."""
    backbone = CausalBackbone(vicuna, chat_template=TEMPLATE, stop_strings=[STOP])
    backbone.materialize()
    llm: Any = backbone.llm
    if llm.config.tie_word_embeddings:
        raise ValueError(f"{vicuna}: found an LLM whose head is its embedding; expected Vicuna, which has two.")
    for layer, name in ((llm.get_input_embeddings(), EMBEDDING), (llm.get_output_embeddings(), HEAD)):
        layer.weight.copy_(delta.tensors[name][: len(layer.weight)])
    size = sum(parameter.nbytes for parameter in llm.parameters())
    with whole_folder(folder, size) as partial:
        llm.save_pretrained(partial)
        backbone.tokenizer.save_pretrained(partial)


def _write_bundle(configuration: dict[str, Any], state: State, bundle: Path, stage: str) -> None:
    with shapes_only():
        model = _composed(relocated(configuration, bundle), bundle)
    model.configuration = configuration
    model.save(bundle, stage, state=state)


def _config(model: dict[str, Any], state: State, out: Path, stage: str) -> str:
    """The model, and its stage as the release trained it (arXiv 2309.05519, table 7; videos weigh twice)."""
    trains = list(dict.fromkeys(part.partition(".")[0] for part in state))
    losses: dict[str, Any] = {"text": 1.0}
    if model["output_side"] is not None:
        losses |= {"alignment": 1.0, "alignment_form": "norm", "modalities": {"video": 2.0}}
    optimizer = {"class_path": "torch.optim.AdamW", "init_args": {"lr": 5.0e-4, "weight_decay": 1.0e-3}}
    own = {
        "trains": trains,
        "losses": losses,
        "data": {"any_to_any": 1.0},
        "steps": None,
        "epochs": 1,
        "batch_size": 16,
        "warmup_ratio": 0.1,
        "optimizer": optimizer,
    }
    document = {"model": model, "training": {"stages": {stage: own}, "run": [stage], "folder": str(out)}}
    return (
        "# The first release of NExT-GPT, imported. To go on training, name your data, the run's folder, and where to\n"
        f"# begin: --training.init_from {out / stage} --training.folder runs/mine\n"
        + yaml.safe_dump(document, sort_keys=False)
    )
