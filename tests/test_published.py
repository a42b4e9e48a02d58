"""No checkpoint's own code is run and nothing is asked on stdin, whatever a folder's files name."""

from __future__ import annotations

import ast
import io
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_bert import write_bert
from tiny_parts import write_clip, write_hubert, write_whisper
from tiny_pipelines import write_pipeline
from tiny_world import write_llm
from transformers import AutoModel

import isthmus
from isthmus.backbones import CausalBackbone, EncoderDecoderBackbone
from isthmus.data.conversations.schema import Conversation, Message, TextItem
from isthmus.encoders.speech.hubert import Hubert
from isthmus.encoders.speech.whisper import Whisper
from isthmus.encoders.vision.transformers_vision import TransformersVision
from isthmus.generators.image.stable_diffusion import StableDiffusion
from isthmus.input_projectors import CFormerProjector, PFormer
from isthmus.model import Reply
from isthmus.published import read_published
from isthmus.training.rewards import ImageTextScore
from isthmus.types import Media, Modality

SOURCE = Path(isthmus.__file__).parent
NAMES = (
    *("AutoConfig", "AutoModel", "AutoModelForCausalLM", "AutoModelForSeq2SeqLM", "AutoImageProcessor"),
    *("AutoFeatureExtractor", "AutoProcessor"),
)
AUTO_MAP: dict[str, Any] = {name: f"own.{name}" for name in NAMES} | {"AutoTokenizer": ["own.Slow", "own.Fast"]}
JSONS = ("config.json", "tokenizer_config.json", "preprocessor_config.json", "processor_config.json")


@pytest.fixture(autouse=True)
def _answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Who answers every question with yes; and the proof afterwards that none was asked, and nothing run."""
    stdin = io.StringIO("y\n" * 20)
    monkeypatch.setattr(sys, "stdin", stdin)
    monkeypatch.setenv("HF_MODULES_CACHE", str(tmp_path / "modules"))
    yield
    assert stdin.tell() == 0, "something was asked"
    assert not (tmp_path / "ran").exists(), "the checkpoint's code was run"


def with_code(folder: Path, **changes: Any) -> Path:
    """The folder, whose files now name code of its own, which leaves a file behind where it is run."""
    marker = folder.parent / "ran"
    folder.mkdir(exist_ok=True)
    (folder / "own.py").write_text(f"open({str(marker)!r}, 'w').close()\n")
    for name in JSONS:
        file = folder / name
        if file.is_file() or name == "config.json":
            held = json.loads(file.read_text()) if file.is_file() else {}
            file.write_text(json.dumps(held | {"auto_map": AUTO_MAP} | (changes if name == "config.json" else {})))
    return folder


def score(folder: Path) -> float:
    picture = Media(Modality.IMAGE, np.zeros((8, 8, 3), np.uint8))
    return ImageTextScore(folder)(Conversation((Message("user", (TextItem("a"),)),)), Reply([picture]))


FOREIGN: dict[str, tuple[Callable[[Path], None], Callable[[Path], Any]]] = {
    "llm": (write_llm, CausalBackbone),
    "encoder-decoder llm": (write_llm, EncoderDecoderBackbone),
    "vision": (write_clip, TransformersVision),
    "whisper": (write_whisper, Whisper),
    "hubert": (write_hubert, Hubert),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_a_model_that_needs_its_own_code_is_refused(name: str, tmp_path: Path) -> None:
    write, build = FOREIGN[name]
    folder = tmp_path / "folder"
    write(folder)
    with pytest.raises(ValueError, match=r"(?s)folder.*(model_type: found|found code .* auto_map)"):
        build(with_code(folder, model_type="unheard_of"))


def test_the_error_names_the_file_and_the_field_and_the_fix(tmp_path: Path) -> None:
    write_llm(tmp_path / "llm")
    message = (
        r"llm: found code of the checkpoint's own, that config.json names under auto_map \(own.AutoConfig, .*Fix: "
    )
    with pytest.raises(ValueError, match=message):
        CausalBackbone(with_code(tmp_path / "llm", model_type="unheard_of"))


def test_a_tokenizer_that_needs_its_own_code_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "llm"
    write_llm(folder)
    (folder / "tokenizer.json").unlink()
    held = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps(held | {"tokenizer_class": "Own", "auto_map": AUTO_MAP}))
    (folder / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()\n")
    with pytest.raises(ValueError, match="its tokenizer can't be read"):
        CausalBackbone(folder)


NATIVE: dict[str, tuple[Callable[[Path], None], Callable[[Path], Any]]] = {
    "llm": (write_llm, CausalBackbone),
    "vision": (write_clip, TransformersVision),
    "whisper": (write_whisper, Whisper),
    "hubert": (write_hubert, Hubert),
}


@pytest.mark.parametrize("name", NATIVE)
def test_what_the_library_has_a_class_for_is_read_by_it(name: str, tmp_path: Path) -> None:
    """Many published LLMs carry the code of the days before the library had their architecture."""
    write, build = NATIVE[name]
    write(tmp_path / "plain")
    write(tmp_path / "folder")
    plain, coded = build(tmp_path / "plain"), build(with_code(tmp_path / "folder"))
    for part in (plain, coded):
        torch.manual_seed(0)
        part.materialize()
    expected, found = plain.state_dict(), coded.state_dict()
    assert expected.keys() == found.keys()
    assert [type(each).__name__ for each in plain.modules()] == [type(each).__name__ for each in coded.modules()]


def test_the_reward_reads_clip_by_the_librarys_classes(tmp_path: Path) -> None:
    from transformers import AutoTokenizer, CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor

    write_llm(tmp_path / "llm")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "llm", local_files_only=True)
    small = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = small | {"vocab_size": len(tokenizer), "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    config = CLIPConfig(text_config=text, vision_config=small | {"image_size": 32, "patch_size": 8}, projection_dim=4)
    CLIPModel(config).save_pretrained(tmp_path / "clip")
    images = CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    CLIPProcessor(images, tokenizer).save_pretrained(tmp_path / "clip")
    assert score(with_code(tmp_path / "clip")) >= 0


@pytest.mark.parametrize("place", ["", "unet"])
def test_a_pipeline_whose_parts_are_its_own_is_refused(place: str, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    write_pipeline("image", folder)
    (folder / place / "own_unet.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()\n")
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps(index | {"unet": ["own_unet", "OwnUNet"]}))
    with pytest.raises(ValueError, match=r"folder: model_index.json: unet: found .*own_unet.*never run here. Fix: "):
        StableDiffusion(folder)


def test_a_pipeline_that_is_its_own_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    write_pipeline("image", folder)
    (folder / "pipeline.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()\n")
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps(index | {"_class_name": ["pipeline", "Own"]}))
    with pytest.raises(ValueError, match=r"model_index.json names \['pipeline', 'Own'\]; expected"):
        StableDiffusion(folder)


def test_a_projector_reads_its_bert_by_the_librarys_class(tmp_path: Path) -> None:
    write_bert(tmp_path / "bert")
    assert type(PFormer(8, with_code(tmp_path / "bert")).bert).__name__ == "BertModel"
    with pytest.raises(ValueError, match="sizes that aren't the projector's"):
        CFormerProjector(8, 8, checkpoint=with_code(tmp_path / "bert"))


def calls(file: Path) -> Iterator[ast.Call]:
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            yield node


def said(call: ast.Call, name: str) -> str:
    return next((ast.unparse(keyword.value) for keyword in call.keywords if keyword.arg == name), "")


UNSAFE = {
    "torch.load": ("weights_only", "True"),
    "np.load": ("allow_pickle", "False"),
    "np.lib.format.read_array": ("allow_pickle", "False"),
    "from_pretrained": ("trust_remote_code", "False"),
}
"""Calls that may run code of a file, and the argument that keeps them from it."""
NEVER = (
    *(
        "pickle.load",
        "pickle.loads",
        "joblib.load",
        "yaml.load",
        "yaml.unsafe_load",
        "yaml.full_load",
        "torch.hub.load",
    ),
    *("load_dataset", "hf_hub_download", "snapshot_download", "load_state_dict_from_url", "eval", "exec"),
)
OF_PLAIN_CONFIGS = {
    *("generators/pipeline_folder.py", "generators/schedules.py", "generators/audio/stable_audio.py"),
    "benchmarks/full_size_experts.py",
}
"""Where ``from_config`` is diffusers' own, which knows no code but the library's."""
ASKED_FOR = {"data/formats/hugging_face.py": "load_dataset"}
"""What is fetched because a config says ``hub: true``; the library of today runs no code of a set."""


def test_the_source_reads_no_file_in_a_way_that_could_run_it(repository: Path) -> None:
    wrong = []
    for file in sorted([*SOURCE.rglob("*.py"), *(repository / "benchmarks").rglob("*.py")]):
        name = file.relative_to(SOURCE if SOURCE in file.parents else repository).as_posix()
        for call in calls(file):
            function = ast.unparse(call.func)
            last = function.rpartition(".")[2]
            argument, expected = UNSAFE.get(function) or UNSAFE.get(last) or ("", "")
            if last == "from_config" and name not in OF_PLAIN_CONFIGS:
                argument, expected = "trust_remote_code", "False"
            if ASKED_FOR.get(name) == function:
                continue
            if function in NEVER or (last in NEVER and "." in function and last not in ("eval",)):
                wrong.append(f"{name}:{call.lineno} {function}")
            elif argument and said(call, argument) != expected:
                wrong.append(f"{name}:{call.lineno} {function} without {argument}={expected}")
            elif last == "from_pretrained" and (name != "published.py" or said(call, "local_files_only") != "True"):
                wrong.append(f"{name}:{call.lineno} {function}: call isthmus.published.read_published")
    assert not wrong, "\n".join(wrong)


def test_a_folder_that_is_not_there_is_no_name_on_the_hub(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"nowhere: found no such folder; expected what AutoModel\..*Fix: correct"):
        read_published(AutoModel, tmp_path / "nowhere")
