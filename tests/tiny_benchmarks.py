"""Miniatures of public benchmarks in their official layouts, where configs/eval looks for them; no data of others."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from PIL import Image

from isthmus.data.media.files import save_media
from isthmus.types import Media, Modality

CLASSES = ("airplane", "night_stand", "vase")


def write_benchmarks(folder: Path) -> Path:
    """Writes all of them below ``folder/data``, which is returned."""
    data = folder / "data"
    for write in (coco, audiocaps, clotho, msr_vtt, vqa, pope, mmmu, model_net, point_llm, mosit, prompts, judged):
        write(data)
    return data


def picture(path: Path, shade: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((8, 8, 3), 40 + 10 * shade, dtype=np.uint8)).save(path)
    return path


def packed_picture(shade: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.full((8, 8, 3), 40 + 10 * shade, dtype=np.uint8)).save(file, format="PNG")
    return file.getvalue()


def sound(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(str(path), np.sin(np.arange(1600) / 4).astype(np.float32), 16000)


def film(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_media(Media(Modality.VIDEO, np.zeros((3, 16, 16, 3), dtype=np.uint8), rate=8.0), path)


def as_json(path: Path, value: Any, lines: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(map(json.dumps, value)) if lines else json.dumps(value), encoding="utf-8")


def table(path: Path, *rows: Sequence[Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)


def coco(data: Path) -> None:
    for year in (2014, 2017):
        images, annotations = [], []
        for number in (1, 2, 3):
            name = f"COCO_val2014_{number:012d}.jpg" if year == 2014 else f"{number:012d}.jpg"
            picture(data / "coco" / f"val{year}" / name, number)
            images.append({"id": number, "file_name": name, "height": 8, "width": 8, "license": 1})
            own = [{"image_id": number, "id": 10 * number + n, "caption": f"A grey {n} of {number}."} for n in range(5)]
            annotations = own + annotations
        told = {"info": {}, "licenses": [], "images": images, "annotations": annotations}
        as_json(data / "coco" / "annotations" / f"captions_val{year}.json", told)
    split = {"filepath": "val2014", "filename": "COCO_val2014_000000000002.jpg", "cocoid": 2, "imgid": 0}
    sentences = [{"raw": f"Grey {n}.", "tokens": ["grey", str(n)], "sentid": n, "imgid": 0} for n in range(5)]
    listed = [{**split, "split": name, "sentences": sentences, "sentids": []} for name in ("restval", "test")]
    as_json(data / "coco" / "dataset_coco.json", {"images": listed, "dataset": "coco"})


def audiocaps(data: Path) -> None:
    rows = [[n, name, 30, f"Rain, {n}"] for n, name in enumerate(("y1", "y2", "y1", "y2", "y1"))]
    table(data / "audiocaps" / "test.csv", ["audiocap_id", "youtube_id", "start_time", "caption"], *rows)
    for name in ("y1", "y2"):
        sound(data / "audiocaps" / "test" / f"{name}.wav")


def clotho(data: Path) -> None:
    head = ["file_name", *(f"caption_{n}" for n in range(1, 6))]
    rows = [[f"Sea {n}.wav", *(f"Waves, {n} {m}" for m in range(5))] for n in range(2)]
    table(data / "clotho" / "clotho_captions_evaluation.csv", head, *rows)
    for n in range(2):
        sound(data / "clotho" / "evaluation" / f"Sea {n}.wav")


def msr_vtt(data: Path) -> None:
    splits = ("train", "test", "test")
    films = [{"video_id": f"video{n}", "id": n, "split": one, "category": 9} for n, one in enumerate(splits)]
    said = [{"video_id": f"video{n % 3}", "sen_id": n, "caption": f"a car {n}"} for n in range(6)]
    as_json(data / "msrvtt" / "MSRVTT_data.json", {"info": {}, "videos": films, "sentences": said})
    rows = [["ret0", "msr2", "video2", "a car stops"], ["ret1", "msr1", "video1", "a car starts"]]
    table(data / "msrvtt" / "MSRVTT_JSFUSION_test.csv", ["key", "vid_key", "video_id", "sentence"], *rows)
    for n in (1, 2):
        film(data / "msrvtt" / "videos" / f"video{n}.mp4")


def vqa(data: Path) -> None:
    asked = [{"question_id": 1000 + n, "image_id": n, "question": f"What is {n}?"} for n in (1, 2)]
    told = {"info": {}, "task_type": "Open-Ended", "data_type": "mscoco", "data_subtype": "val2014", "questions": asked}
    as_json(data / "vqav2" / "v2_OpenEnded_mscoco_val2014_questions.json", told)
    people = [{"answer_id": n, "answer": "grey" if n < 8 else "gray", "answer_confidence": "yes"} for n in range(1, 11)]
    common = {"question_type": "what is", "answer_type": "other", "multiple_choice_answer": "grey", "answers": people}
    answers = [{"question_id": 1000 + n, "image_id": n, **common} for n in (2, 1)]
    as_json(data / "vqav2" / "v2_mscoco_val2014_annotations.json", {"info": {}, "annotations": answers})


def pope(data: Path) -> None:
    for kind in ("random", "popular", "adversarial"):
        asked = [
            {"question_id": n, "image": f"COCO_val2014_{n:012d}.jpg", "text": f"Is there a {kind} cat?", "label": label}
            for n, label in ((1, "yes"), (2, "no"))
        ]
        as_json(data / "pope" / f"coco_pope_{kind}.json", asked, lines=True)


def mmmu(data: Path) -> None:
    import pyarrow
    from pyarrow import parquet

    def row(split: str, n: int, **fields: Any) -> dict[str, Any]:
        empty: dict[str, Any] = {f"image_{k}": None for k in range(1, 8)}
        shown = {f"image_{k}": {"bytes": packed_picture(k), "path": None} for k in (1, 2)}
        common = {"id": f"{split}_Art_{n}", "explanation": "", "img_type": "[]", "topic_difficulty": "Easy"}
        return {**common, "subfield": "Drawing", **empty, **shown, **fields}

    choice = {"question_type": "multiple-choice", "options": "['dark', 'light', '<image 2>']"}
    rows = [
        row("validation", 1, question="<image 1> How is it?", answer="B", **choice),
        row("validation", 2, question="Which of both?", answer="['1', 'one']", question_type="open", options="[]"),
    ]
    for split, own in (("validation", rows), ("test", [{**rows[0], "id": "test_Art_1", "answer": "?"}])):
        place = data / "mmmu" / "Art" / f"{split}-00000-of-00001.parquet"
        place.parent.mkdir(parents=True, exist_ok=True)
        picture_type = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
        fields = [(name, picture_type if name.startswith("image_") else pyarrow.string()) for name in own[0]]
        parquet.write_table(pyarrow.Table.from_pylist(own, schema=pyarrow.schema(fields)), place)


def model_net(data: Path) -> None:
    folder = data / "modelnet40_normal_resampled"
    random = np.random.default_rng(0)
    folder.mkdir(parents=True)
    (folder / "modelnet40_shape_names.txt").write_text("\n".join(CLASSES) + "\n")
    names = [f"{name}_0627" for name in CLASSES]
    (folder / "modelnet40_test.txt").write_text("\n".join(names) + "\n")
    for kind, name in zip(CLASSES, names, strict=True):
        (folder / kind).mkdir()
        np.savetxt(folder / kind / f"{name}.txt", random.normal(size=(40, 6)), delimiter=",", fmt="%.6f")


def point_llm(data: Path) -> None:
    place = data / "pointllm"
    told = [
        {
            "object_id": f"e{n}",
            "conversation_type": "simple_description",
            "conversations": [
                {"from": "human", "value": "<point>\nWhat is this?"},
                {"from": "gpt", "value": f"A cartoon bear {n}."},
            ],
        }
        for n in range(2)
    ]
    as_json(place / "PointLLM_brief_description_val_200_GT.json", told)
    (place / "objaverse_data").mkdir()
    for n in range(2):
        cloud = np.random.default_rng(n).uniform(size=(64, 6)).astype(np.float32)
        np.save(place / "objaverse_data" / f"e{n}_8192.npy", cloud)


def mosit(data: Path) -> None:
    turns = [
        {"from": "human", "value": "See <Image>1.jpg</Image>"},
        {"from": "gpt", "value": "A grey square."},
        {"from": "human", "value": "Draw one."},
        {"from": "gpt", "value": "Here: <Image>2.jpg</Image>"},
    ]
    pictures = [{"image_name": f"{n}.jpg", "caption": f"grey {n}"} for n in (1, 2)]
    record = {"image_list": pictures, "video_list": [], "audio_list": [], "conversation": turns}
    as_json(data / "mosit" / "mosit.json", [record])
    for n in (1, 2):
        picture(data / "mosit" / "images" / f"{n}.jpg", n)


def prompts(data: Path) -> None:
    told = [
        {"tag": "single_object", "include": [{"class": "bench", "count": 1}], "prompt": "a photo of a bench"},
        {"tag": "colors", "include": [{"class": "cow", "count": 1, "color": "red"}], "prompt": "a photo of a red cow"},
    ]
    as_json(data / "geneval" / "evaluation_metadata.jsonl", told, lines=True)
    (data / "dpg_bench" / "prompts").mkdir(parents=True)
    for name in ("midjourney3", "partiprompts0"):
        (data / "dpg_bench" / "prompts" / f"{name}.txt").write_text(f"A long prompt of {name}.\n")
    films = [
        {"prompt_en": "In a still frame, a stop sign", "dimension": ["temporal_flickering"]},
        {"prompt_en": "a bird and a cat", "dimension": ["multiple_objects", "subject_consistency"]},
    ]
    as_json(data / "vbench" / "VBench_full_info.json", films)
    for kind in ("color", "shape", "texture", "spatial", "non_spatial", "complex"):
        place = data / "t2i_compbench" / f"{kind}_val.txt"
        place.parent.mkdir(exist_ok=True)
        place.write_text(f"a green bench and a {kind} bowl\tx\na red cup\n")


def judged(data: Path) -> None:
    import pyarrow
    from pyarrow import parquet

    names = ("cultural_common_sense", "spatio-temporal_reasoning", "natural_science")
    for number, name in enumerate(names, 1):
        told = {"Prompt": f"The plant of {number}", "Explanation": "It is a carnation", "prompt_id": number}
        as_json(data / "wise" / f"{name}.json", [{**told, "Category": name, "Subcategory": "Plants"}])
    edits = {
        "1082": {"id": "animal/1.jpg", "prompt": "Make it lighter.", "edit_type": "adjust"},
        "673": {"id": "animal/1.jpg", "prompt": "Paint it.", "edit_type": "style"},
    }
    as_json(data / "imgedit" / "basic_edit.json", edits)
    picture(data / "imgedit" / "images" / "animal" / "1.jpg")
    own = {"task_type": "color_alter", "input_image": {"bytes": packed_picture(1), "path": None}}
    rows = [
        {"key": f"k{n}", "instruction": "Paint it.", "instruction_language": one, "Intersection_exist": n > 0, **own}
        for n, one in enumerate(("en", "en", "cn"))
    ]
    (data / "gedit").mkdir()
    parquet.write_table(pyarrow.Table.from_pylist(rows), data / "gedit" / "train-00000-of-00001.parquet")
