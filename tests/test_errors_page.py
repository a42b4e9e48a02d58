"""docs/errors.md shows errors as they are: each message there is one that the package gives when it is provoked."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from types import SimpleNamespace
from typing import Any

import pytest
from tiny_world import tiny_experts, tiny_model

from isthmus.cli.configs import find_config
from isthmus.data import JsonLines
from isthmus.data.formats import CaptionTable, MediaFolder
from isthmus.data.media.files import read_media
from isthmus.encoders import ImageBind
from isthmus.evaluation.novelty import captions_of
from isthmus.evaluation.predictions.origin import bind
from isthmus.model.allowed import require_allowed
from isthmus.model.answering import check_served
from isthmus.model.bundle import check_fits, described, read_manifest
from isthmus.training.checks import check_accumulation
from isthmus.training.running.run_folder import refuse_work
from isthmus.training.trainable import select_parts
from isthmus.types import Modality

PAGE = Path(__file__).resolve().parents[1] / "docs" / "errors.md"


@cache
def experts() -> dict[str, Path]:
    """Tiny experts, written once for all of this file's tests."""
    return tiny_experts(Path(mkdtemp()))


def record(user: list[dict[str, str]], assistant: str = "a cat") -> JsonLines:
    """A set of one conversation, `mine.jsonl`."""
    messages = [{"role": "user", "content": user}, {"role": "assistant", "content": assistant}]
    Path("mine.jsonl").write_text(json.dumps({"messages": messages}), encoding="utf-8")
    return JsonLines("mine.jsonl")


def shown(file: str) -> list[dict[str, str]]:
    return [{"type": "image", "image": file}, {"type": "text", "text": "what is it?"}]


def table(text: str, **options: Any) -> CaptionTable:
    Path("photos").mkdir(exist_ok=True)
    Path("photos/captions.csv").write_text(text, encoding="utf-8")
    return CaptionTable("photos/captions.csv", "image", "{file}", **options)


def used_folder() -> None:
    bundle = Path("runs/curriculum/encoder_alignment")
    bundle.mkdir(parents=True)
    (bundle / "manifest.json").write_text("{}")
    refuse_work(Path("runs/curriculum"))


def stage_folder() -> None:
    bundle = Path("runs/mine/encoder_alignment")
    bundle.mkdir(parents=True)
    (bundle / "manifest.json").write_text("{}")
    read_manifest(Path("runs/mine"))


def unlabelled() -> None:
    Path("photos").mkdir()
    Path("photos/1.jpg").touch()
    MediaFolder("photos")[0]


def broken_picture() -> None:
    Path("cat.jpg").write_bytes(b"\xff\xd8 it ends here")
    read_media("cat.jpg", Modality.IMAGE)


def another_expert() -> None:
    tiny = Path("checkpoints/llama"), Path("checkpoints/other")
    for folder in tiny:
        folder.mkdir(parents=True)
        (folder / "config.json").write_text(json.dumps({"name": folder.name}))
    was = described({"backbone": SimpleNamespace(checkpoint=tiny[0])})
    now = {"backbone": SimpleNamespace(checkpoint=tiny[1])}
    check_fits(Path("runs/mine/encoder_alignment"), {"experts": was}, now, None)


def own_class() -> None:
    configuration = {"encoders": [{"class_path": "my_package.MyEncoder", "init_args": {}}]}
    require_allowed(configuration, [], Path("runs/mine/encoder_alignment/manifest.json"))


def collated(inputs: tuple[str, ...], max_tokens: int) -> None:
    from PIL import Image

    Image.new("RGB", (16, 16)).save("cat.png")
    model = tiny_model(experts(), inputs=inputs, outputs=(), max_tokens=max_tokens)
    model.configure_model()
    model.collator().sample(record(shown("cat.png"))[0])


def unknown_part() -> None:
    model = tiny_model(experts(), inputs=("image",), outputs=())
    model.configure_model()
    select_parts(model, ["output_projectors"], "decoder_alignment")


def other_answers() -> None:
    for tokens in (64, 32):
        bind(Path("runs/mine/evaluation/predictions"), {"sampling": {"max_new_tokens": tokens}, "test": {}})


PROVOKED: dict[str, Callable[[], object]] = {
    "A config isn't found": lambda: find_config("stage9.yaml"),
    "An expert's folder isn't there": lambda: ImageBind("checkpoints/imagebind", ["image"]),
    "A stage trains a part that the model hasn't got": unknown_part,
    "Gradient accumulation is refused": lambda: check_accumulation(
        SimpleNamespace(accumulate_grad_batches=4, callbacks=[])  # type: ignore[arg-type]
    ),
    "The folder holds a run already": used_folder,
    "The folder is a run's, not a stage's": stage_folder,
    "A model was trained beside another expert": another_expert,
    "A model names classes of your own package": own_class,
    "A file of the data isn't there": lambda: record(shown("cat.jpg"))[0],
    "A path leaves the data's folder": lambda: record(shown("../cat.jpg"))[0],
    "A picture can't be read": broken_picture,
    "A folder of media has no captions": unlabelled,
    "A table has other columns": lambda: table("name,text\n1.jpg,a cat\n"),
    "No record is of the split": lambda: table("file,caption,split\n1.jpg,a cat,training\n", splits=["train"]),
    "A split that nobody named": lambda: table("file,caption\n1.jpg,a cat\n", splits=["train"]),
    "An evaluation has no caption to compare with": lambda: captions_of({"id": "mine/0", "source": "mine"}, "caption"),
    "Stored answers were made otherwise": other_answers,
    "A conversation is too long": lambda: collated(("image",), 8),
    "The model doesn't take a medium": lambda: collated(("points",), 512),
    "The model doesn't make a medium": lambda: check_served([[Modality.VIDEO]], [Modality.IMAGE]),
}


def messages() -> dict[str, str]:
    """The page's messages by heading."""
    found = re.findall(r"^### (.+?)\n\n```\n(.+?)\n```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return {heading: " ".join(block.split()) for heading, block in found}


def test_the_page_has_each_error_and_no_other() -> None:
    assert list(messages()) == list(PROVOKED)


@pytest.mark.parametrize("heading", PROVOKED)
def test_an_error_is_as_the_page_shows_it(heading: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`...` on the page stands for whatever differs from machine to machine."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError) as caught:
        PROVOKED[heading]()
    said = " ".join(str(caught.value).split())
    pattern = ".*".join(map(re.escape, messages()[heading].split("...")))
    assert re.fullmatch(pattern, said), f"{PAGE.name}: {heading!r} is now: {said}"
