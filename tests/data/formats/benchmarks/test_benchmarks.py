"""Public benchmarks by miniatures of their official layouts: what they become, and what is said of faults."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_benchmarks import CLASSES, write_benchmarks

from isthmus.data.conversations.schema import Conversation, MediumItem, TextItem
from isthmus.data.conversations.sources import ConversationSource
from isthmus.data.errors import DataError
from isthmus.data.formats.benchmarks import (
    MMMU,
    MSRVTT,
    WISE,
    AudioCapsClips,
    Clotho,
    CocoCaptions,
    CocoPrompts,
    DPGBench,
    GEditBench,
    GenEval,
    ImgEdit,
    ModelNet40,
    MosIT,
    PointLLMObjects,
    Pope,
    T2ICompBench,
    VBench,
    VQAv2,
)
from isthmus.data.formats.benchmarks.model_net import farthest
from isthmus.data.media.files import read_media
from isthmus.training.provenance import provenance
from isthmus.types import Media


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_benchmarks(tmp_path_factory.mktemp("benchmarks"))


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def said(conversation: Conversation) -> list[list[str]]:
    """By turn its texts, and its media as ``image:name`` or ``image:"caption"``."""

    def piece(item: Any) -> str:
        if isinstance(item, TextItem):
            return item.text
        name = "" if item.media is None or isinstance(item.media, Media) else Path(str(item.media)).name
        return f"{item.modality}:{name}" + (f'"{item.caption}"' if item.caption else "")

    return [[piece(item) for item in message.content] for message in conversation.messages]


Make = Callable[[Path], ConversationSource]
WORD = "Answer the question using a single word or phrase."

CASES: list[tuple[Make, int, list[list[str]], dict[str, Any]]] = [
    (
        lambda data: CocoCaptions(data / "coco/annotations/captions_val2017.json", data / "coco/val2017"),
        3,
        [["image:000000000001.jpg", "Describe the image."], ["A grey 0 of 1."]],
        {"id": "1", "caption": [f"A grey {n} of 1." for n in range(5)], "modality": "image"},
    ),
    (
        lambda data: CocoCaptions(data / "coco/dataset_coco.json", data / "coco", splits=["test"]),
        1,
        [["image:COCO_val2014_000000000002.jpg", "Describe the image."], ["Grey 0."]],
        {"id": "2", "caption": [f"Grey {n}." for n in range(5)]},
    ),
    (
        lambda data: AudioCapsClips(data / "audiocaps/test.csv", data / "audiocaps/test"),
        2,
        [["audio:y1.wav", "Describe the recording."], ["Rain, 2"]],
        {"id": "y1", "caption": ["Rain, 0", "Rain, 2", "Rain, 4"], "start_time": "30"},
    ),
    (
        lambda data: Clotho(data / "clotho/clotho_captions_evaluation.csv", data / "clotho/evaluation"),
        2,
        [["audio:Sea 0.wav", "Describe the recording."], ["Waves, 0 0"]],
        {"id": "Sea 0.wav", "caption": [f"Waves, 0 {m}" for m in range(5)]},
    ),
    (
        lambda data: MSRVTT(
            data / "msrvtt/MSRVTT_data.json", data / "msrvtt/videos", data / "msrvtt/MSRVTT_JSFUSION_test.csv"
        ),
        2,
        [["video:video2.mp4", "Describe the video."], ["a car 5"]],
        {"id": "video2", "caption": ["a car 2", "a car 5"], "sentence": "a car stops", "category": 9},
    ),
    (
        lambda data: MSRVTT(data / "msrvtt/MSRVTT_JSFUSION_test.csv", data / "msrvtt/videos"),
        2,
        [["video:video2.mp4", "Describe the video."], ["a car stops"]],
        {"id": "video2", "caption": ["a car stops"]},
    ),
    (
        lambda data: VQAv2(
            data / "vqav2/v2_OpenEnded_mscoco_val2014_questions.json",
            data / "vqav2/v2_mscoco_val2014_annotations.json",
            data / "coco/val2014",
        ),
        2,
        [["image:COCO_val2014_000000000001.jpg", f"What is 1?\n{WORD}"], ["grey"]],
        {"id": "1001", "answers": ["grey"] * 7 + ["gray"] * 3, "answer": "grey", "answer_type": "other"},
    ),
    (
        lambda data: Pope(data / "pope/coco_pope_popular.json", data / "coco/val2014"),
        2,
        [["image:COCO_val2014_000000000001.jpg", f"Is there a popular cat?\n{WORD}"], ["yes"]],
        {"id": "1", "label": "yes"},
    ),
    (
        lambda data: ModelNet40(data / "modelnet40_normal_resampled", points=16),
        3,
        [["points:", "What is this?"], ["airplane"]],
        {"id": "airplane_0627", "label": "airplane", "choices": ["airplane", "night stand", "vase"]},
    ),
    (
        lambda data: PointLLMObjects(
            data / "pointllm/PointLLM_brief_description_val_200_GT.json", data / "pointllm/objaverse_data"
        ),
        2,
        [["points:e0_8192.npy", "Caption this 3D model in detail."], ["A cartoon bear 0."]],
        {"id": "e0", "caption": ["A cartoon bear 0."]},
    ),
    (
        lambda data: MosIT(data / "mosit/mosit.json", data / "mosit", {"image": "images"}),
        2,
        [["See ", "image:1.jpg"], ["A grey square."]],
        {"id": "0/1", "turn": 1},
    ),
    (
        lambda data: GenEval(data / "geneval/evaluation_metadata.jsonl"),
        8,
        [["Make an image: a photo of a bench"], ['image:"a photo of a bench"']],
        {"id": "00000/0", "prompt": "a photo of a bench", "prompt_index": 0, "sample": 0},
    ),
    (
        lambda data: DPGBench(data / "dpg_bench/prompts", instruction="{prompt}"),
        8,
        [["A long prompt of midjourney3."], ['image:"A long prompt of midjourney3."']],
        {"id": "midjourney3/0", "key": "midjourney3"},
    ),
    (
        lambda data: VBench(data / "vbench/VBench_full_info.json", dimensions=["multiple_objects"]),
        5,
        [["Make a video: a bird and a cat"], ['video:"a bird and a cat"']],
        {"id": "0/0", "dimension": ["multiple_objects", "subject_consistency"]},
    ),
    (
        lambda data: T2ICompBench(data / "t2i_compbench/color_val.txt", samples=3),
        6,
        [["Make an image: a green bench and a color bowl"], ['image:"a green bench and a color bowl"']],
        {"id": "0/0", "prompt": "a green bench and a color bowl"},
    ),
    (
        lambda data: WISE(data / "wise"),
        3,
        [["Make an image: The plant of 1"], ['image:"The plant of 1"']],
        {"id": "1", "explanation": "It is a carnation", "category": "cultural_common_sense", "subcategory": "Plants"},
    ),
    (
        lambda data: ImgEdit(data / "imgedit/basic_edit.json", data / "imgedit/images"),
        2,
        [["image:1.jpg", "Make it lighter."], ['image:"Make it lighter."']],
        {"id": "1082", "key": "1082", "edit_type": "adjust"},
    ),
    (
        lambda data: GEditBench(data / "gedit"),
        2,
        [["image:train-00000-of-00001.parquet[0]: input_image.png", "Paint it."], ['image:"Paint it."']],
        {"id": "k0/en", "task_type": "color_alter", "intersection_exist": False},
    ),
]


@pytest.mark.parametrize(("make", "size", "turns", "details"), CASES)
def test_a_miniature_of_each_layout(data: Path, make: Make, size: int, turns: Any, details: dict[str, Any]) -> None:
    source = make(data)
    first = source[0]
    assert len(source) == size and said(first) == turns
    assert {name: first.details.get(name) for name in details} == details
    names = [conversation.details["id"] for conversation in (source[index] for index in range(size))]
    assert len(set(names)) == size, "metrics know an answer by its id"
    shown = [item for message in first.messages for item in message.content if isinstance(item, MediumItem)]
    assert source.media_in(0) == {item.modality for item in shown}
    for item in shown:
        if item.media is not None:
            media = item.media if isinstance(item.media, Media) else read_media(item.media, item.modality)
            assert media.array.size
    again = pickle.loads(pickle.dumps(source))
    assert said(again[0]) == turns, "data workers may be sent a source"
    assert source.files and all(file.exists() for file in source.files)


def test_questions_of_exams_have_their_pictures_at_the_marks(data: Path) -> None:
    source = MMMU(data / "mmmu")
    choice, free = source[0], source[1]
    first, second = (f"image:validation-00000-of-00001.parquet[0]: image_{n}.png" for n in (1, 2))
    words = " How is it?\n\n(A) dark\n(B) light\n(C) "
    end = "\n\nAnswer with the option's letter from the given choices directly."
    assert said(choice) == [[first, words, second, end], ["B"]]
    assert choice.details["choices"] == ["dark", "light", "<image 2>"] and choice.details["subject"] == "Art"
    assert [one.split(":")[0] for one in said(free)[0]] == ["image", "image", f"Which of both?\n\n{WORD}"]
    assert free.details["answer"] == ["1", "one"] and said(free)[1] == ["1"]
    (hidden,) = MMMU(data / "mmmu", splits=["test"])  # type: ignore[misc]  # sources are sequences
    assert len(hidden.messages) == 1 and "answer" not in hidden.details
    assert source.media_in(0) == {"image"} and source.choice["splits"] == ["validation"]


def test_the_choice_of_captions_for_fid_is_the_same_each_time_and_recorded(data: Path) -> None:
    path, root = data / "coco/annotations/captions_val2014.json", data / "coco/val2014"

    def chosen(**options: Any) -> list[int]:
        source = CocoPrompts(path, root, **options)
        return [source[index].details["caption_id"] for index in range(len(source))]

    one = CocoPrompts(path, root, size=2)
    made = one[0].messages[1].content[0]
    assert isinstance(made, MediumItem) and isinstance(made.media, Path) and [made.caption] == one[0].details["caption"]
    assert one[0].details["caption_id"] // 10 == one[0].details["image_id"], "the caption of its own picture"
    assert chosen(size=2) == chosen(size=3)[:2] == chosen(size=2, seed=0) != chosen(size=2, seed=1)
    assert len(chosen(size=15, per_image=False)) == len(set(chosen(size=15, per_image=False)))
    told = [provenance({"fid": CocoPrompts(path, root, size=2, seed=seed)})["fid"] for seed in (0, 1)]
    assert told[0]["choice"]["seed"] == 0 and told[0] != told[1], "another choice is another protocol"
    with pytest.raises(ValueError, match=r"size: found 4 for 3 captions; .*per_image: false"):
        CocoPrompts(path, root, size=4)


def test_edits_are_of_the_languages_asked_for(data: Path) -> None:
    source = GEditBench(data / "gedit", languages=["cn"])
    assert len(source) == 1 and source[0].details["id"] == "k2/cn" and source.where(0).endswith("[2]")


def test_samples_of_a_prompt_have_other_noise_each(data: Path) -> None:
    source = GenEval(data / "geneval/evaluation_metadata.jsonl", samples=2)
    told = [source[index].details for index in range(4)]
    assert [(one["prompt_index"], one["sample"]) for one in told] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert len({one["seed"] for one in told}) == 4 and told[0]["seed"] == source[0].details["seed"]
    assert GenEval(source.files[0], seed=1)[0].details["seed"] != told[0]["seed"]


def test_prompts_may_hold_any_sign_and_begin_with_a_mark(tmp_path: Path) -> None:
    (tmp_path / "color_val.txt").write_text("\ufeffa red\u2028 cup\na blue bowl\n", encoding="utf-8")
    source = T2ICompBench(tmp_path / "color_val.txt", samples=1)
    told = str([one.content for one in source[0].messages])
    assert len(source) == 2 and "a red" in told and " cup" in told and "ufeff" not in told


def test_media_may_be_made_instead_of_described(data: Path) -> None:
    source = Clotho(
        data / "clotho/clotho_captions_evaluation.csv",
        data / "clotho/evaluation",
        direction="draw",
        instruction="Play: {caption}",
    )
    (asked,), (made,) = said(source[0])
    assert asked.startswith("Play: Waves, 0") and made == f'audio:Sea 0.wav"{asked[6:]}"'
    assert source[0].details["seed"] != source[1].details["seed"]


def test_answers_of_a_dialogue_are_asked_for_one_by_one(data: Path) -> None:
    source = MosIT(data / "mosit/mosit.json", data / "mosit", {"image": "images"})
    assert [len(source[index].messages) for index in range(2)] == [2, 4]
    assert said(source[1])[-1] == ["Here: ", 'image:2.jpg"grey 2"'] and source[1].details["id"] == "0/3"
    assert len(MosIT(data / "mosit/mosit.json", data / "mosit", {"image": "images"}, each_answer=False)) == 1


def test_clouds_are_chosen_far_apart_and_read_packed_too(data: Path, tmp_path: Path) -> None:
    folder = data / "modelnet40_normal_resampled"
    source = ModelNet40(folder, points=16)
    assert source.choice["split"] == "test"
    whole = np.loadtxt(folder / "airplane/airplane_0627.txt", delimiter=",")[:, :3].astype(np.float32)
    chosen = [0]
    while len(chosen) < 16:  # a second computation, by definition
        apart = np.linalg.norm(whole[:, None].astype(np.float64) - whole[chosen].astype(np.float64), axis=2).min(1)
        chosen.append(int(apart.argmax()))
    item = source[0].messages[0].content[0]
    assert isinstance(item, MediumItem) and isinstance(item.media, Media)
    np.testing.assert_array_equal(item.media.array, whole[chosen])
    assert len(farthest(whole, 100)) == 40
    packed = tmp_path / "packed"
    shutil.copytree(folder, packed, ignore=lambda *_: list(CLASSES))
    np.savez(packed / "modelnet40_test_8192pts_fps.npz", points=np.stack([whole] * 3), labels=np.array([2, 0, 1]))
    rows = ModelNet40(packed, points=16)
    first = rows[0].messages[0].content[0]
    assert isinstance(first, MediumItem) and isinstance(first.media, Media)
    np.testing.assert_array_equal(first.media.array, whole[chosen])
    assert [rows[index].details["label"] for index in range(3)] == ["vase", "airplane", "night stand"]


def changed(data: Path, tmp_path: Path, name: str, change: Callable[[Any], Any]) -> Path:
    """A copy of a JSON file with something in it changed."""
    found = json.loads((data / name).read_text())
    path = tmp_path / Path(name).name
    path.write_text(json.dumps(change(found)))
    return path


def test_bad_records_are_faults_of_their_own(data: Path, tmp_path: Path) -> None:
    """They are told when their turn comes, with their place, so that they can be counted and passed over."""

    def spoil(found: Any) -> Any:
        found["images"][1]["file_name"] = "absent.jpg"
        found["annotations"] = [one for one in found["annotations"] if one["image_id"] != 1]
        found["annotations"].append({"image_id": 99, "id": 7, "caption": "Nothing."})
        found["images"].append("no object")
        return found

    source = CocoCaptions(
        changed(data, tmp_path, "coco/annotations/captions_val2017.json", spoil), data / "coco/val2017"
    )
    says = {0: "caption: found no words", 1: "no file at", 3: "found str 'no object'", 4: "'images' lacks"}
    assert len(source) == 5 and source[2].details["id"] == "3"
    for index, told in says.items():
        with pytest.raises(DataError, match=told) as caught:
            source[index]
        assert f"captions_val2017.json: {'images' if index < 4 else 'annotations'}" in str(caught.value)

    def hide(found: Any) -> Any:
        found["annotations"] = [{**found["annotations"][0], "answers": [3]}]
        return found

    answers = changed(data, tmp_path, "vqav2/v2_mscoco_val2014_annotations.json", hide)
    asked = VQAv2(data / "vqav2/v2_OpenEnded_mscoco_val2014_questions.json", answers, data / "coco/val2014")
    with pytest.raises(DataError, match="found no annotation of this question"):
        asked[0]
    with pytest.raises(DataError, match=r"answers: found '\[3\]'; expected a list of answers"):
        asked[1]
    bare = VQAv2(data / "vqav2/v2_OpenEnded_mscoco_val2014_questions.json", root=data / "coco/val2014")
    assert len(bare[0].messages) == 1, "questions of the test split have no answers"
    table = tmp_path / "test.csv"
    table.write_text("audiocap_id,youtube_id,start_time,caption\n1,y1,30,Rain\n2,y2\n")
    clips = AudioCapsClips(table, data / "audiocaps/test")
    assert clips[0].details["id"] == "y1"
    with pytest.raises(DataError, match="found 2 fields for the 4 columns"):
        clips[1]
    films = changed(data, tmp_path, "msrvtt/MSRVTT_data.json", lambda found: {**found, "videos": found["videos"][:2]})
    shown = MSRVTT(films, data / "msrvtt/videos", data / "msrvtt/MSRVTT_JSFUSION_test.csv")
    assert shown[1].details["id"] == "video1"
    with pytest.raises(DataError, match=r"line 2: found 'video2', which .*MSRVTT_data.json lacks"):
        shown[0]
    lines = tmp_path / "films.json"
    lines.write_text('{"prompt_en": "a cat", "dimension": ["color"]}\n{"prompt_en": \n')
    for dimensions in (None, ["color"]):
        prompts = VBench(lines, samples=1, dimensions=dimensions)
        assert prompts[0].details["prompt"] == "a cat"
        with pytest.raises(DataError, match=r"films.json:2: found no JSON"):
            prompts[1]


WRONG: list[tuple[Make, str]] = [
    (lambda data: CocoCaptions(data / "absent.json"), "found no file; expected a benchmark's JSON"),
    (lambda data: CocoCaptions(data / "mosit/mosit.json"), "expected an object with the lists images"),
    (lambda data: CocoCaptions(data / "coco/dataset_coco.json", data / "coco", splits=["dev"]), "found restval, test"),
    (lambda data: MSRVTT(data / "audiocaps/test.csv"), "found the columns .*expected video_id and sentence too"),
    (lambda data: AudioCapsClips(data / "audiocaps/test.csv", file="{name}.wav"), "braces of 'file', '{name}.wav'"),
    (
        lambda data: MSRVTT(data / "msrvtt/MSRVTT_data.json", data / "msrvtt/videos", file="{video}.mp4"),
        "found video_id; expected those in the braces of 'file', '{video}.mp4'",
    ),
    (
        lambda data: VQAv2(data / "vqav2/v2_OpenEnded_mscoco_val2014_questions.json", file="{image_id:x!}.jpg"),
        "found data_subtype, image_id; expected those in the braces of 'file', '{image_id:x!}.jpg'",
    ),
    (lambda data: VQAv2(data / "vqav2/v2_OpenEnded_mscoco_val2014_questions.json", instruction="?"), r"\{question\}"),
    (ModelNet40, "modelnet40_shape_names.txt: found no file"),
    (lambda data: DPGBench(data / "coco"), "found no records"),
    (lambda data: GenEval(data / "geneval/evaluation_metadata.jsonl", samples=0), "samples: found 0"),
    (lambda data: VBench(data / "vbench/VBench_full_info.json", dimensions=["smell"]), "found no records"),
    (lambda data: GEditBench(data / "gedit", languages=["fr"]), "found no row in these languages"),
    (lambda data: GEditBench(data / "mmmu"), "expected key, task_type, .* too"),
    (lambda data: MMMU(data / "mmmu", instruction="{question}"), r"expected \{options\} in it"),
]


@pytest.mark.parametrize(("make", "says"), WRONG)
def test_another_layout_is_refused(data: Path, make: Make, says: str) -> None:
    with pytest.raises(ValueError, match=says) as caught:
        make(data)
    assert "Fix: " in str(caught.value)
