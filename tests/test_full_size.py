"""The shipped full-size expert sets, through the command line at full size: every part counted, and no weight read."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from isthmus.cli import main
from isthmus.cli.experts.known import KNOWN
from isthmus.cli.training import Command
from isthmus.frozen import shapes_only
from isthmus.model import AnyToAny
from isthmus.training import StageSwitch
from isthmus.training.rehearsal.published_modern import MODERN
from isthmus.training.rehearsal.published_nextgpt import NEXTGPT
from isthmus.training.trainable import set_trainable

pytestmark = pytest.mark.slow  # two sets, of 10 and 20 billion parameters, are built layer by layer
STAGES = ("encoder_alignment", "decoder_alignment", "instruction_tuning")
SETS = {"nextgpt": NEXTGPT, "modern": MODERN}
CONFIGS = Path(__file__).resolve().parents[1] / "configs"
Whole = tuple[Any, AnyToAny]


def composed(name: str, folder: Path) -> Whole:
    """The command of ``fit -c experts/NAME.yaml``, and its model, all of it built in shapes alone."""
    for checkpoint, write in SETS[name].items():
        write(folder / "checkpoints" / checkpoint)
    (folder / "checkpoints" / "pocket").symlink_to(CONFIGS.parent / "checkpoints" / "pocket")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(sys, "argv", ["train.py"])
        patch.setattr(Command, "fit", lambda self, **_: None)
        cli = Command(["fit", "-c", f"experts/{name}.yaml", "-c", "curriculum.yaml", "--trainer.accelerator", "cpu"])
        with shapes_only():
            cli.model.configure_model()
            for expert in experts(cli.model):
                expert.to("meta")
                expert.load()
    return cli, cli.model


def experts(model: AnyToAny) -> Iterator[Any]:
    yield from model.input_side.encoders
    yield from model.output_side.generators


def size(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Whole]:
    """Each set once."""
    known: dict[str, Whole] = {}

    def make(name: str) -> Whole:
        if name not in known:
            known[name] = composed(name, tmp_path_factory.mktemp(name))
        return known[name]

    return make


@pytest.fixture(scope="module", params=sorted(SETS))
def name(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


def rounded(count: int, like: str) -> str:
    """A count as published figures are written: ``859.5 M`` gives millions with one digit behind the point."""
    figure, unit = like.split()
    digits = len(figure.partition(".")[2])
    return f"{count / {'B': 1e9, 'M': 1e6}[unit]:.{digits}f} {unit}"


PUBLISHED: dict[str, dict[str, str]] = {
    "nextgpt": {
        "ImageBind.model": "719 M",  # arXiv 2305.05665: ViT-H (632 M) sees, ViT-B (86 M) hears
        "CausalBackbone.llm": "6.74 B",  # LLaMA's and Llama 2's 7B
        "StableDiffusion.unet": "859.5 M",  # CompVis' card: 860 M
        "StableDiffusion.vae": "83.7 M",
        "StableDiffusion.text_encoder": "123.1 M",  # CLIP ViT-L/14's text tower
        "ZeroScope.unet": "1.41 B",
        "ZeroScope.text_encoder": "340.4 M",  # OpenCLIP ViT-H/14's text tower less its last layer
        "AudioLDM": "975 M",  # the card of cvssp/audioldm-l-full, all parts
    },
    "modern": {
        "FramesEncoder.image_encoder": "428 M",  # SigLIP so400m's vision tower at 384
        "Whisper.model": "637 M",  # of large-v3's 1.55 B
        "CausalBackbone.llm": "4.0 B",  # arXiv 2505.09388
        "StableDiffusionXL.unet": "2.6 B",  # arXiv 2307.01952, table 1
        "StableDiffusionXL.text_encoder_2": "695 M",  # OpenCLIP ViT-bigG/14's text tower
        "Wan.transformer": "1.4 B",  # the model's name says 1.3B
        "Wan.vae": "127 M",  # arXiv 2503.20314
        "Wan.text_encoder": "5.7 B",  # UMT5-XXL's encoder
        "AudioLDM2.unet": "0.35 B",  # the card of cvssp/audioldm2
        "AudioLDM2": "1.1 B",  # the card, all parts
    },
}
# By part, from the sizes in the config alone. E is 4096 and 2560.
TINY = 4 * (4 * 512**2 + 2 * 512 * 2048) + 4 * (8 * 512**2 + 2 * 512 * 2048)  # NExT-GPT's transformer, matrices alone
TRAINED: dict[str, dict[str, int]] = {
    "nextgpt": {
        **{f"input_projectors.{medium}": 1025 * 4096 for medium in ("image", "video", "audio")},
        "media_tags": 8 * 4096,
        "signal_rows": (4 + 24 + 8 + 8 + 4) * 4096,  # points keep their rows; the last four are the head's
        "lora": 32 * 4 * 2 * 32 * 4096,
    },
    "modern": {
        "input_projectors.image": (4 * 1152 + 1) * 2560,
        "media_tags": 8 * 2560,
        "signal_rows": (16 + 24 + 16 + 8 + 4) * 2560,
        # q, o: 2560 and 4096; k, v: 2560 and 1024; gate, up, down: 2560 and 9728
        "lora": 36 * 32 * (2 * (2560 + 4096) + 2 * (2560 + 1024) + 3 * (2560 + 9728)),
    },
}


def counted(model: AnyToAny) -> dict[str, int]:
    """Every frozen part by class and name, each expert's whole by its class."""
    sizes = {}
    for expert in experts(model):
        sizes[type(expert).__name__] = size(expert)
        sizes |= {f"{type(expert).__name__}.{part}": size(module) for part, module in expert.named_children()}
    base = [p for name, p in model.backbone.language_model.llm.named_parameters() if "lora_" not in name]
    return sizes | {"CausalBackbone.llm": sum(parameter.numel() for parameter in base)}


def test_every_expert_has_its_published_size(name: str, whole: Callable[[str], Whole]) -> None:
    sizes = counted(whole(name)[1])
    assert {part: rounded(sizes[part], like) for part, like in PUBLISHED[name].items()} == PUBLISHED[name]


def test_what_is_said_of_a_checkpoint_that_is_not_there(name: str, whole: Callable[[str], Whole]) -> None:
    model = whole(name)[1]
    sizes = counted(model)
    wrapped = {type(expert).__name__: getattr(expert, "image_encoder", expert) for expert in experts(model)}
    read = {known_folder(expert.checkpoint): sizes[name] for name, expert in wrapped.items()}
    read[known_folder(model.backbone.language_model.checkpoint)] = sizes["CausalBackbone.llm"]
    assert set(read) == set(SETS[name])
    for folder, count in read.items():
        more = folder in ("imagebind", "whisper-large-v3", "siglip-so400m-patch14-384")  # towers that aren't read
        assert more or 1e9 * KNOWN[folder].billions == pytest.approx(count, rel=0.03), folder
        assert count <= 1.03e9 * KNOWN[folder].billions


def known_folder(checkpoint: Path) -> str:
    return next(part for part in Path(checkpoint).parts if part in KNOWN)


def test_nothing_is_in_memory(name: str, whole: Callable[[str], Whole]) -> None:
    _, model = whole(name)
    assert {tensor.device.type for tensor in (*model.parameters(), *model.buffers())} == {"meta"}
    assert not list(Path(model.backbone.language_model.checkpoint).glob("*.safetensors"))


@pytest.mark.parametrize("stage", STAGES)
def test_what_trains_and_what_is_frozen(name: str, stage: str, whole: Callable[[str], Whole]) -> None:
    cli, model = whole(name)
    (switch,) = [callback for callback in cli.trainer.callbacks if isinstance(callback, StageSwitch)]
    assert switch.names == list(STAGES)
    counts = set_trainable(model, switch.stages[stage].trains, stage)

    # Said by the stage's own count, and found by looking at every parameter.
    trains = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    frozen = sum(parameter.numel() for parameter in model.parameters() if not parameter.requires_grad)
    assert sum(counts.values()) == trains
    assert not any(parameter.requires_grad for expert in experts(model) for parameter in expert.parameters())
    sizes = counted(model)
    assert frozen >= sum(sizes[part] for part in (*(type(e).__name__ for e in experts(model)), "CausalBackbone.llm"))

    expected = {part: count for part, count in TRAINED[name].items() if part in counts}
    assert {part: counts[part] for part in expected} == expected
    sides = {"encoder_alignment": {"input_projectors"}, "decoder_alignment": {"output_projectors"}}
    media = sides.get(stage, {"input_projectors", "output_projectors"})
    projectors = {part for part in counts if "." in part}
    assert projectors == {f"{side}.{medium}" for side in media for medium in ("image", "video", "audio")}
    assert ("lora" in counts) == (stage == "instruction_tuning")
    for part in projectors:
        if part.startswith("output_projectors"):
            assert rounded(counts[part], "0.03 B") in ("0.03 B", "0.04 B") and counts[part] > TINY

    print(f"\n{name}, {stage}: trains {trains:,}, frozen {frozen:,} ({100 * trains / (trains + frozen):.2f} % trains)")
    for part, count in counts.items():
        print(f"  trains  {part:28}{count:>16,}")
    for part, count in sizes.items():
        print(f"  frozen  {part:36}{count:>16,}" if "." in part else f"  frozen  {part:36}{count:>16,}  in all")


def test_signals_and_conditions_are_nextgpts(whole: Callable[[str], Whole]) -> None:
    model = whole("nextgpt")[1]
    assert model.backbone.language_model.vocabulary.signal_counts == {"image": 4, "video": 24, "audio": 8, "points": 8}
    shapes = {medium: model.output_side.generator(medium).condition_shape for medium in model.outputs}
    assert shapes == {"image": (77, 768), "video": (77, 1024), "audio": (1, 512)}
    video = model.output_side.generator(model.outputs[1])
    assert (video.num_frames, video.height, video.width) == (24, 320, 576)


def test_all_of_imagebind_is_one_point_two_billion(whole: Callable[[str], Whole]) -> None:
    from isthmus.encoders.imagebind.config import ImageBindConfig
    from isthmus.encoders.imagebind.model import ImageBindModel

    with shapes_only():
        assert size(ImageBindModel(ImageBindConfig())) == 1_200_781_057


def test_vicunas_template_writes_its_prompt(whole: Callable[[str], Whole]) -> None:
    """The example of FastChat's docs/vicuna_weights_version.md, and how a prompt ends."""
    tokenizer = whole("nextgpt")[1].backbone.language_model.tokenizer
    turns = ["Hello!", "Hello!", "How are you?", "I am good."]
    messages = [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(turns)]
    preamble = (
        "<s>A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, "
        "detailed, and polite answers to the user's questions. "
    )
    answered = tokenizer.apply_chat_template(messages, tokenize=False)
    assert answered == preamble + "USER: Hello! ASSISTANT: Hello!</s>USER: How are you? ASSISTANT: I am good.</s>"
    prompt = tokenizer.apply_chat_template(messages[:3], tokenize=False, add_generation_prompt=True)
    assert prompt == preamble + "USER: Hello! ASSISTANT: Hello!</s>USER: How are you? ASSISTANT:"
    assert answered.startswith(prompt)
    system = tokenizer.apply_chat_template([{"role": "system", "content": "Be brief."}, messages[0]], tokenize=False)
    assert system == "<s>Be brief. USER: Hello! "


@pytest.mark.parametrize("config", sorted(SETS))
def test_a_config_says_where_each_checkpoint_comes_from(config: str) -> None:
    lines = (CONFIGS / "experts" / f"{config}.yaml").read_text(encoding="utf-8").splitlines()
    comments = "\n".join(line for line in lines if line.startswith("#"))
    folders = {line.split("checkpoints/")[1].split("/")[0] for line in lines if "checkpoint: checkpoints/" in line}
    assert folders == set(SETS[config])
    assert not [folder for folder in folders if f"checkpoints/{folder}" not in comments]


@pytest.mark.parametrize("config", sorted(SETS))
def test_a_set_can_be_rehearsed(
    config: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """From YAML alone: published configurations stand in for checkpoints that nobody has downloaded."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["isthmus"])
    # The last stage alone, in which both sides and the LLM compute and learn: it holds all that the first two run.
    run = ["--training.run", json.dumps(STAGES[2:])]
    main(["rehearse", "-c", f"experts/{config}.yaml", "-c", "curriculum.yaml", "--json", *run])
    found = json.loads(capsys.readouterr().out)
    assert list(found["stages"]) == list(STAGES[2:])
    sizes = {"nextgpt": ("LLM", "6.8 B"), "modern": ("LLM", "4.1 B")}  # with rows and adapters
    part, published = sizes[config]
    assert rounded(found["parts"][part]["parameters"], published) == published
    weights = sum(part["weights"] for part in found["parts"].values())
    assert 10e9 < found["stages"]["instruction_tuning"]["peak"] and weights < 60e9
    assert all(folder in found["notes"][-1] for folder in SETS[config])
