"""Several models over the same experts in one server: each answers as if it were alone, and experts are held once."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import openai
import pytest
import torch
from mcp import Client
from served import served

from isthmus.backbones.base import Sampling
from isthmus.cli import serve
from isthmus.cli.parsing.model import open_pipelines
from isthmus.cli.serve import named_folders
from isthmus.generators.residency import Residency
from isthmus.inference.pipeline import Pipeline
from isthmus.inference.same_experts import share_experts

SAMPLING = Sampling(max_new_tokens=6)


@pytest.fixture(scope="module")
def second(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another bundle of the same experts, whose bridges and adapter say other things."""
    model = Pipeline.open(bundle, "cpu").model
    torch.manual_seed(7)
    for _, weight in model.named_owned():
        weight.data += torch.randn_like(weight) * 0.3
    # Beside the first, whose experts are found from there.
    return model.save(bundle.parent / "second", "stage")


async def asked(address: str, names: list[str]) -> list[Any]:
    async with openai.AsyncOpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0) as client:
        requests: dict[str, Any] = {
            "messages": [{"role": "user", "content": "what do you say to a picture of it"}],
            "modalities": ["text", "image"],
            "extra_body": {"num_inference_steps": 2},
        }
        answers = [client.chat.completions.create(model=name, **requests) for name in names]
        return [answer.choices[0].message for answer in await asyncio.gather(*answers)]


async def called_as_tools(address: str, names: list[str]) -> list[Any]:
    async with Client(f"{address}/mcp") as client:
        question = {"text": "what do you say to a picture of it"}
        return [await client.call_tool("make_image", question | {"model": name}) for name in names]


def test_each_answers_as_alone(bundle: Path, second: Path) -> None:
    def opened(folder: Path) -> Pipeline:
        return Pipeline.open(folder, "cpu", SAMPLING)

    expected = []
    for folder in (bundle, second):
        with served(opened(folder), marks=False) as address:  # media would name the model by another name
            expected += asyncio.run(asked(address, ["tiny"]))
    first, other = opened(bundle), opened(second)
    assert share_experts(other.model, first.model) == []
    assert first.model.input_side is not None and other.model.input_side is not None
    assert [*first.model.input_side.encoders] == [*other.model.input_side.encoders]
    residency = Residency(torch.device("cpu"), 1)
    words = [each.model.backbone.language_model.llm.get_input_embeddings().weight for each in (first, other)]
    assert words[0].data_ptr() == words[1].data_ptr()
    for each in (first, other):
        assert each.model.output_side is not None
        each.model.output_side.residency = residency
    with served(first, adapters={"other": other}, marks=False) as address:
        found = asyncio.run(asked(address, ["tiny", "other", "tiny", "other"]))
        with openai.OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0) as client:
            assert [model.id for model in client.models.list()] == ["tiny", "other"]
            with pytest.raises(openai.NotFoundError, match="this server has 'tiny', 'other'"):
                client.chat.completions.create(model="third", messages=[{"role": "user", "content": "a"}])
        called, refused = asyncio.run(called_as_tools(address, ["other", "third"]))
        assert "this server has 'tiny', 'other'" in refused.content[0].text and refused.is_error
    assert expected[0] != expected[1]
    assert found == [expected[0], expected[1]] * 2
    assert [generator.modality for generator in residency.present] == ["image"]
    (picture,) = [block.data for block in called.content if block.type == "image"]
    assert expected[1].images[0]["image_url"]["url"] == f"data:image/png;base64,{picture}"


def test_models_have_room_on_the_device_in_common(bundle: Path, second: Path) -> None:
    """The meta device stands in for a GPU: nothing is computed."""
    options = serve.parser().parse_args(["--model", "any", "--device", "meta", "--resident_generators", "2"])
    sides = [each.model.output_side for each in open_pipelines(options, {"a": bundle, "b": second}).values()]
    assert sides[0].residency is sides[1].residency and sides[0].residency.count == 2
    assert sides[0].residency.device == torch.device("meta")
    options.resident_generators = None
    assert open_pipelines(options, {"a": bundle})["a"].model.output_side.residency is None


def test_another_expert_is_said(bundle: Path) -> None:
    first, other = Pipeline.open(bundle, "cpu").model, Pipeline.open(bundle, "cpu").model
    other.backbone.language_model.dtype = torch.bfloat16
    assert share_experts(other, first) == ["LLM CausalBackbone"]


def test_names_of_models() -> None:
    assert named_folders(["runs/a"], "mine") == {"mine": Path("runs/a")}
    assert named_folders(["a=runs/a", "b=runs/b"], None) == {"a": Path("runs/a"), "b": Path("runs/b")}
    with pytest.raises(ValueError, match="expected each as NAME=FOLDER"):
        named_folders(["a=runs/a", "runs/b"], None)
    with pytest.raises(ValueError, match="under a name of its own"):
        named_folders(["a=runs/a", "a=runs/b"], None)
    with pytest.raises(ValueError, match="leave --name out"):
        named_folders(["a=runs/a", "b=runs/b"], "mine")
