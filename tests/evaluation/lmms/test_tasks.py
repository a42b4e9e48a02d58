"""lmms-eval itself runs tasks that are made here, on an untrained model: words, pictures, turns, choices."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from isthmus.backbones.base import Sampling
from isthmus.data.conversations.schema import parse_conversation
from isthmus.data.media.files import read_media
from isthmus.data.sampling.seeds import derive_seed
from isthmus.inference.pipeline import Pipeline
from isthmus.model import Reply
from isthmus.types import Modality

HAS_LMMS = importlib.util.find_spec("lmms_eval") is not None
pytestmark = [
    pytest.mark.lmms,
    pytest.mark.skipif(not HAS_LMMS, reason="`make test-timm` runs this in .venv-timm"),
]

FUNCTIONS = '''
from PIL import Image

def shown(doc):
    """A picture as a dataset gives it, other media by their paths."""
    return [Image.open(path).convert("RGB") if path.endswith("png") else path for path in doc["files"]]

def asked(doc, lmms_eval_specific_kwargs=None, round_idx=None, previous_output=None, previous_round_info=None):
    if round_idx is None:
        return doc["question"]
    return None, f"{round_idx}: {doc['question']}", round_idx == 2, previous_output, None

def messages(doc):
    kinds = {"png": "image", "wav": "audio", "mp4": "video"}
    media = [{"type": kinds[path[-3:]], "url": value} for path, value in zip(doc["files"], shown(doc))]
    text = {"type": "text", "text": doc["question"]}
    return [{"role": "user", "content": [{"type": "text", "text": "look:"}, *media, text]}]

def scored(doc, results):
    return {"right": float(results[0].startswith(doc["answer"]))}

def taken(doc, results):
    return {"right": 0.0}
'''
TASK = """
task: {name}
dataset_path: json
dataset_kwargs:
  data_files:
    test: {folder}/documents.jsonl
test_split: test
output_type: {kind}
doc_to_visual: !function functions.shown
doc_to_text: !function functions.asked
doc_to_target: "answer"
"""
GENERATES = """
generation_kwargs:
  max_new_tokens: 6
process_results: !function functions.{scored}
metric_list:
  - metric: right
    aggregation: mean
    higher_is_better: true
"""
CHOICES = ["red", "a four", "zero"]


@pytest.fixture(scope="module")
def documents(repository: Path) -> list[dict[str, Any]]:
    """Questions about a picture, a sound, a film, and all of them."""
    named = [["three.png"], ["four.wav"], ["six.mp4"], ["three.png", "four.wav", "six.mp4"]]
    examples = repository / "examples"
    return [
        {"files": [str(examples / name) for name in names], "question": f"what is it {at}?", "answer": CHOICES[at % 3]}
        for at, names in enumerate(named)
    ]


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory, documents: list[dict[str, Any]]) -> Path:
    """A folder of tasks, as a user of lmms-eval writes them."""
    folder = tmp_path_factory.mktemp("tasks")
    (folder / "functions.py").write_text(FUNCTIONS)
    (folder / "documents.jsonl").write_text("".join(json.dumps(document) + "\n" for document in documents))
    generates = TASK + GENERATES
    written = {
        "made_words": generates.format(name="made_words", folder=folder, kind="generate_until", scored="scored")
        + "doc_to_messages: !function functions.messages\n",
        "made_turns": generates.format(
            name="made_turns", folder=folder, kind="generate_until_multi_round", scored="taken"
        ),
        "made_choices": TASK.format(name="made_choices", folder=folder, kind="multiple_choice")
        + f"doc_to_choice: {json.dumps(CHOICES)}\nmetric_list:\n  - metric: acc\n    aggregation: mean\n"
        "    higher_is_better: true\n",
        "made_steps": generates.format(name="made_steps", folder=folder, kind="generate_visual_cot", scored="taken"),
    }
    for name, text in written.items():
        (folder / f"{name}.yaml").write_text(text)
    return folder


@pytest.fixture(scope="module")
def evaluated(tasks: Path, bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Runs tasks and gives results and samples; the cache of datasets lies with the test's files."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LMMS_EVAL_DATASETS_CACHE", str(tmp_path_factory.mktemp("datasets")))
        from lmms_eval.evaluator import simple_evaluate
        from lmms_eval.tasks import TaskManager

        manager = TaskManager("ERROR", str(tasks), include_defaults=False, model_name="isthmus")

        def run(names: Sequence[str], **options: Any) -> dict[str, Any]:
            arguments = {"pretrained": str(bundle), **options.pop("model_args", {})}
            return simple_evaluate(
                model="isthmus",
                model_args=",".join(f"{name}={value}" for name, value in arguments.items()),
                tasks=list(names),
                task_manager=manager,
                batch_size=options.pop("batch_size", 3),
                device="cpu",
                bootstrap_iters=0,
                **options,
            )

        yield run


def reply(opened: Pipeline, content: list[dict[str, Any]], seed: int = 0, require: Sequence[Modality] = ()) -> Reply:
    """What the model itself says, alone in its batch."""
    conversation = parse_conversation({"messages": [{"role": "user", "content": content}]}, "here")
    sampling = Sampling(max_new_tokens=6)
    batch = opened.model.prompts([conversation], sampling, [require])
    return opened.model.answer(batch, sampling, [require], list(require), [seed])[0]


def media_of(document: dict[str, Any]) -> list[dict[str, Any]]:
    """A document's media as a message's content."""
    kinds = {".png": "image", ".wav": "audio", ".mp4": "video"}
    return [{"type": (kind := kinds[Path(path).suffix]), kind: path} for path in document["files"]]


def said(results: dict[str, Any], task: str) -> list[Any]:
    """The answer to each document, in order."""
    return [sample["resps"][0][0] for sample in sorted(results["samples"][task], key=lambda one: one["doc_id"])]


def test_the_library_finds_the_model() -> None:
    from lmms_eval.models import get_model, get_model_manifest

    assert get_model_manifest("isthmus").chat_class_path == "isthmus.evaluation.lmms.chat.ChatModel"
    assert [get_model("isthmus", simple).is_simple for simple in (False, True)] == [False, True]


def test_words_and_turns_are_what_the_model_says(
    evaluated: Any, documents: list[dict[str, Any]], opened: Pipeline
) -> None:
    results = evaluated(["made_words", "made_turns"])
    look, words = {"type": "text", "text": "look:"}, [{"type": "text", "text": one["question"]} for one in documents]
    expected = [reply(opened, [look, *media_of(one), text]).text for one, text in zip(documents, words, strict=True)]
    assert said(results, "made_words") == expected and any(expected)
    right = [text.startswith(one["answer"]) for text, one in zip(expected, documents, strict=True)]
    assert results["results"]["made_words"]["right,none"] == np.mean(right)
    turns = [
        [
            reply(opened, [*media_of(one), {"type": "text", "text": one["question"]}]).text,
            reply(opened, [{"type": "text", "text": f"1: {one['question']}"}]).text,
        ]
        for one in documents
    ]
    assert said(results, "made_turns") == turns


def test_required_pictures_are_files_in_its_json_form(
    evaluated: Any, documents: list[dict[str, Any]], opened: Pipeline, tmp_path: Path
) -> None:
    """A picture depends on its document alone, not on the batch."""
    asked = {"require": "image", "output_dir": tmp_path, "seed": 5}
    results = evaluated(["made_words"], limit=2, batch_size=2, model_args=asked)
    for at, answer in enumerate(map(json.loads, said(results, "made_words"))):
        assert answer["images"] == [str(tmp_path / "made_words" / f"{at}_0.png")]
        content = [{"type": "text", "text": "look:"}, *media_of(documents[at])]
        content.append({"type": "text", "text": documents[at]["question"]})
        own = reply(opened, content, derive_seed(5, "made_words", at, 0, 0) % 2**31, [Modality.IMAGE])
        assert answer["text"] == own.text
        made = read_media(answer["images"][0], Modality.IMAGE).array.astype(int)
        assert abs(made - own.media()[0].array.astype(int)).max() <= 1


def test_choices_are_scored_and_steps_are_drawn(
    evaluated: Any, documents: list[dict[str, Any]], opened: Pipeline
) -> None:
    results = evaluated(["made_choices", "made_steps"], force_simple=True)
    model = opened.model
    for sample, document in zip(results["samples"]["made_choices"], documents, strict=True):
        for choice, ((loss, greedy),) in zip(CHOICES, sample["resps"], strict=True):
            asked = [*media_of(document), {"type": "text", "text": document["question"]}]
            turns = [{"role": "user", "content": asked}, {"role": "assistant", "content": choice}]
            batch = model.collator(targets="last")([parse_conversation({"messages": turns}, "here")])
            output = model(batch)
            assert loss == pytest.approx(float(output.text_loss.detach()) / batch.target_count, rel=1e-5)
            assert greedy == bool(output.correct.all())
        losses = [loss for ((loss, _),) in sample["resps"]]
        assert sample["acc"] == float(int(np.argmin(losses)) == CHOICES.index(document["answer"]))
    for at, (text, document) in enumerate(zip(said(results, "made_steps"), documents, strict=True)):
        media, question = media_of(document), {"type": "text", "text": document["question"]}
        seed = derive_seed(0, "made_steps", at, 0, 0) % 2**31
        (picture,) = reply(opened, [*media, question], seed, [Modality.IMAGE]).media()
        assert text == reply(opened, [*media, {"type": "image", "image": picture}, question]).text


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"batch_size": "auto"}, "batch_size: found auto"),
        ({"model_args": {"require": "smell"}}, "require: found 'smell'"),
        ({"model_args": {"require": "points"}}, "require: found points; this model makes image"),
    ],
)
def test_what_isnt_there_is_said(evaluated: Any, options: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        evaluated(["made_words"], **options)


def test_a_drawn_step_that_is_asked_for_again_has_a_seed_of_its_own(
    bundle: Path, documents: list[dict[str, Any]]
) -> None:
    from isthmus.evaluation.lmms.simple import SimpleModel

    model = SimpleModel(str(bundle), device="cpu")
    model.task_dict = {"a task": {"test": documents}}
    given = {"temperature": 1.0, "max_new_tokens": 6}
    request = SimpleNamespace(args=("what is it?", given, None, None, 0, "a task", "test"))
    one, again = model.generate_visual_cot([request, request])
    assert one != again


def test_an_answer_that_is_asked_for_again_has_a_seed_of_its_own() -> None:
    from isthmus.evaluation.lmms.answering import Question
    from isthmus.evaluation.lmms.base import LmmsModel
    from isthmus.evaluation.lmms.drawing import Drawing

    one = Question(list, Drawing(), "a task", 7)
    again = LmmsModel._numbered([one, one, replace(one, document=8), one])
    assert [(own.document, own.repeat) for own in again] == [(7, 0), (7, 1), (8, 0), (7, 2)]
