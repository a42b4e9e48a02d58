"""A bundle's configuration is read as plain data, and nothing is imported unless all of it is allowed."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from isthmus.model.allowed import require_allowed

OWN = "isthmus.encoders.ImageBind"
MANIFEST = Path("stage/manifest.json")


def nested(value: Any) -> dict[str, Any]:
    return {"input_side": {"class_path": "isthmus.model.InputSide", "init_args": {"encoders": [value]}}}


@pytest.mark.parametrize(
    "value",
    [
        {"class_path": "evil.Encoder"},
        {"class_path": "isthmus_evil.Encoder"},
        {"class_path": "torch.nn.Linear", "init_args": {}},
        {"class_path": OWN, "init_args": {"inner": {"class_path": "evil.Encoder"}}},
        {"dict_kwargs": {"class_path": "evil.Encoder"}},
        "os.system",  # in the place of a class its bare path would do
        "torch.optim.AdamW",
        "torch.hub.load",
        '{"class_path": "evil.Encoder"}',  # a string is read as YAML where none is expected
        "{class_path: evil.Encoder}",
        "[torch.hub.load]",
        "' {class_path: evil.Encoder}'",
        {"name": {"torch.hub.load": None, "x": "os.system"}},
        {"class_path": "isthmus.importing.published.subprocess.Popen"},  # what a module of this package imported
        {"checkpoint": {"class_path": "subprocess.Popen"}},
        {"checkpoint": "{class_path: subprocess.Popen}"},
    ],
)
def test_a_class_of_another_package_is_refused_before_anything_is_imported(value: Any) -> None:
    with pytest.raises(ValueError, match=r"stage/manifest.json: configuration\..*found '.*expected a class of isthmus"):
        require_allowed(nested(value), (), MANIFEST)


@pytest.mark.parametrize(
    "value",
    [
        {
            "class_path": OWN,
            "init_args": {"checkpoint": "torch.old", "modalities": ["image"], "memo": None},
        },
        {"class_path": "ImageBind"},  # a short name is that of a class that is loaded already
        "q_proj|v_proj",
        "self_attn.q_proj",
        "vit_large_patch14_clip_224.openai",
        "checkpoints/llama/model.safetensors",
        "bfloat16",
        "{{ bos_token }}{% for message in messages %}: [",
    ],
)
def test_what_names_no_foreign_class_is_allowed(value: Any) -> None:
    require_allowed(nested(value), (), MANIFEST)


def test_packages_are_allowed_by_name_and_whole() -> None:
    value = nested({"class_path": "evil.encoders.Encoder"})
    message = r"--allow evil on the command line, allow=\['evil'\] in Python"
    for allow in ((), ["evi"], ["evil.enc"], ["evil.encoders.Encoder.inner"]):
        with pytest.raises(ValueError, match=message):
            require_allowed(value, allow, MANIFEST)
    for allow in (["evil"], ["other", "evil.encoders"], ["evil.encoders.Encoder"]):
        require_allowed(value, allow, MANIFEST)
    with pytest.raises(ValueError, match=r"allow: found the string 'evil'; expected a list"):
        require_allowed(value, "evil", MANIFEST)
    assert "evil" not in sys.modules


def test_every_shipped_configuration_names_this_package_alone(repository: Path) -> None:
    """So that whatever the shipped configs train is opened without a further word."""
    configs = sorted((repository / "configs").rglob("*.yaml"))
    models = [yaml.safe_load(path.read_text(encoding="utf-8")).get("model") for path in configs]
    assert sum(model is not None for model in models) > 5
    for path, model in zip(configs, models, strict=True):
        require_allowed(model, (), path)


def test_aliases_of_a_string_are_read_once_each() -> None:
    """Without that, as many places as two to the power of the levels would be read."""
    levels = "".join(f", &l{level} [*l{level - 1}, *l{level - 1}]" for level in range(1, 60))
    require_allowed(nested(f"[&l0 [x]{levels}]"), (), MANIFEST)
    with pytest.raises(ValueError, match=r"found 'torch\.hub\.load'"):
        require_allowed(nested(f"[&l0 [torch.hub.load]{levels}]"), (), MANIFEST)
