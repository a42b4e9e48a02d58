"""Tables of the shapes that sets on the hub have: what each becomes, wherever its rows lie."""

from __future__ import annotations

import io
import json
import pickle
import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from data.formats.tables import TEXT, blip3o, cauldron, onevision, picture, plain, saved, sound, stored
from datasets import Dataset, DatasetDict, Features, Value
from PIL import Image

from isthmus.data.errors import DataError
from isthmus.data.formats import HuggingFace, table_files
from isthmus.data.media.files import read_media
from isthmus.types import Modality

FORMS = ("disk", "arrow", "file", "parquet")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def table(folder: Path, rows: list[dict[str, Any]], features: dict[str, Any] | None = None, name: str = "a") -> Path:
    made = Dataset.from_list(rows, None if features is None else Features(features))
    made.to_parquet(str(folder / f"{name}.parquet"))
    return folder / f"{name}.parquet"


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("shape", [onevision, cauldron, blip3o])
def test_rows_are_the_same_in_every_kind_of_file(tmp_path: Path, shape: Callable[[], Dataset], form: str) -> None:
    source = HuggingFace(saved(shape(), tmp_path, form))
    rows = shape().cast_column("jpg", datasets.Image(decode=False)) if shape is blip3o else None
    assert len(source) == len(shape())
    if shape is onevision:
        said = [("user", [("image", picture(3), None), "What is it?"]), ("assistant", ["It is 3, an <image> tag."])]
        assert plain(source[3]) == said and source[3].details == {"id": "n3", "data_source": "made"}
        assert plain(source[2]) == [("user", ["Only words?"]), ("assistant", ["It is 2, an <image> tag."])]
        assert list(source.labels()) == ["image", "image", "text", "image", "image"]
    elif shape is cauldron:
        shown = [("image", picture(10 + j, "jpg"), None) for j in range(2)]
        assert plain(source[1]) == [
            ("user", [*shown, "Question 0?"]),
            ("assistant", ["Answer 0."]),
            ("user", ["Question 1?"]),
            ("assistant", ["Answer 1."]),
        ]
    else:
        assert rows is not None and stored(source, 2)[0].data == rows[2]["jpg"]["bytes"]
        assert plain(source[2])[1] == ("assistant", ["a caption of train 2"])
        assert source[2].details["caption"] == " a caption of train 2 " and source[2].details["id"] == "00002"
    image = stored(source, 1)[0]
    assert image.suffix == (".png" if shape is onevision else ".jpg")
    assert read_media(image, Modality.IMAGE).array.shape == (6, 8, 3)


def test_captions_are_drawn_from_as_they_are_described(tmp_path: Path) -> None:
    source = HuggingFace(saved(blip3o(), tmp_path, "parquet"), direction="draw", draw=["Make {caption}!"])
    image = ("image", stored(source, 1)[0].data, "a caption of train 1")
    assert plain(source[1]) == [("user", ["Make a caption of train 1!"]), ("assistant", [image])]
    bare = HuggingFace(tmp_path / "a.parquet", direction="draw", target_files=False)
    assert plain(bare[1])[1] == ("assistant", [("image", None, "a caption of train 1")])


def test_turns_with_parts_take_the_rows_media_in_order(tmp_path: Path) -> None:
    """Content in parts, as chat templates want it: a struct's other fields are null, and null isn't there."""
    part = {"type": TEXT, "text": TEXT}
    turns = datasets.List({"role": TEXT, "content": datasets.List(part)})
    image, text = {"type": "image", "text": None}, {"type": "text", "text": "Which?"}
    rows = [
        {
            "messages": [
                {"role": "user", "content": [image, text, image]},
                {"role": "assistant", "content": [{"type": "text", "text": "Both."}]},
            ],
            "images": [{"bytes": picture(i), "path": f"{i}.png"} for i in range(2)],
            "system": system,
        }
        for system in ("Be brief.", None)
    ]
    source = HuggingFace(table(tmp_path, rows, {"messages": turns, "images": [datasets.Image()], "system": TEXT}))
    asked = ("user", [("image", picture(0), None), "Which?", ("image", picture(1), None)])
    assert plain(source[0]) == [("system", ["Be brief."]), asked, ("assistant", ["Both."])]
    assert plain(source[1]) == [asked, ("assistant", ["Both."])]
    assert str(stored(source, 0)[0]).endswith("a.parquet[0]: 0.png")


def test_turns_may_be_a_struct_of_lists_or_a_text_of_json(tmp_path: Path) -> None:
    said = [("user", ["Who?"]), ("assistant", ["Me."])]
    apart = {"from": ["human", "gpt"], "value": ["Who?", "Me."]}
    features = {"conversations": {"from": datasets.List(TEXT), "value": datasets.List(TEXT)}}
    assert plain(HuggingFace(table(tmp_path, [{"conversations": apart}], features))[0]) == said
    told = json.dumps([{"from": "human", "value": "Who?"}, {"from": "gpt", "value": "Me."}])
    source = HuggingFace(table(tmp_path, [{"conversations": told}]))
    assert plain(source[0]) == said and source[0].details == {}


def test_other_media_and_other_words(tmp_path: Path) -> None:
    np.save(tmp_path / "cloud.npy", np.zeros((2, 3), np.float32))
    spoken = {"audio": {"bytes": sound(0), "path": "a.wav"}, "text": "rain"}
    source = HuggingFace(table(tmp_path, [spoken], {"audio": {"bytes": Value("binary"), "path": TEXT}, "text": TEXT}))
    assert read_media(stored(source, 0)[0], Modality.AUDIO).array.shape == (400,)
    assert source[0].details == {"text": "rain", "caption": "rain", "modality": "audio"}
    asked = [{"image": {"bytes": picture(0), "path": None}, "question": "What?", "answer": ["a cat", "cat"], "n": 3}]
    source = HuggingFace(table(tmp_path, asked))
    assert plain(source[0]) == [("user", [("image", picture(0), None), "What?"]), ("assistant", ["a cat"])]
    clouds = [{"points": [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]], "label": 1}]
    features = {
        "points": datasets.List(datasets.List(Value("float32"))),
        "label": datasets.ClassLabel(names=["a", "b"]),
    }
    source = HuggingFace(table(tmp_path, clouds, features))
    (cloud,) = [item.media for item in source[0].messages[0].content if hasattr(item, "media")]
    assert cloud.array.tolist() == clouds[0]["points"]
    assert source[0].details == {"label": "b", "caption": "b", "modality": "points"}
    paths = [{"points": "cloud.npy", "captions": ["one", "two"]}]
    source = HuggingFace(table(tmp_path, paths))
    assert plain(source[0])[0][1][0] == ("points", tmp_path / "cloud.npy", None)
    assert source[0].details["caption"] == ["one", "two"]


def test_columns_are_named_where_a_guess_fails(tmp_path: Path) -> None:
    rows = [{"left": {"bytes": picture(0), "path": None}, "right": {"bytes": picture(1), "path": None}, "alt": "two"}]
    path = table(tmp_path, [{**rows[0], "key": 7, "score": float("nan"), "vector": [1.0, 2.0]}])
    with pytest.raises(ValueError, match="found the columns left, right, alt, key, score, vector; expected a dialogue"):
        HuggingFace(path)
    source = HuggingFace(path, columns={"image": "right", "caption": "alt", "id": "key"})
    assert stored(source, 0)[0].data == picture(1)
    assert source[0].details == {"alt": "two", "key": 7, "id": 7, "caption": "two", "modality": "image"}
    both = HuggingFace(path, columns={"image": ["left", "right"], "question": "alt", "answer": "alt"})
    assert [one.data for one in stored(both, 0)] == [picture(0), picture(1)]
    with pytest.raises(ValueError, match="columns: found 'picture'; expected some of messages, question"):
        HuggingFace(path, columns={"picture": "left"})
    with pytest.raises(ValueError, match="columns: found 'middle'; expected one of the set's columns: left, right"):
        HuggingFace(path, columns={"image": "middle", "caption": "alt"})


def test_a_column_may_be_of_any_modality_and_only_the_four_are_guessed(tmp_path: Path) -> None:
    file = io.BytesIO()
    Image.fromarray(np.full((4, 5), 2500, np.uint16)).save(file, "PNG")
    row = {"depth": {"bytes": file.getvalue(), "path": "a.png"}, "caption": "a wall"}
    with pytest.raises(ValueError, match="found the columns depth, caption; expected a dialogue"):
        HuggingFace(table(tmp_path, [row]))
    source = HuggingFace(table(tmp_path, [row]), columns={"depth": "depth"})
    (found,) = stored(source, 0)
    assert source[0].details["modality"] == "depth"
    np.testing.assert_allclose(read_media(found, Modality("depth")).array, np.full((4, 5), 2.5))
    numbers = {"depth": 3, "image": {"bytes": picture(0), "path": None}, "caption": "a cat"}
    assert [one.data for one in stored(HuggingFace(table(tmp_path, [numbers], name="b")), 0)] == [picture(0)]


FAULTS: list[tuple[dict[str, Any], str]] = [
    ({"image": None, "caption": "a"}, "found no medium beside 'caption'"),
    ({"image": b"x", "audio": b"y", "caption": "a"}, "found 1 image, 1 audio beside 'caption'"),
    ({"image": b"x", "caption": " "}, "caption: found no words"),
    ({"image": b"x", "caption": None}, "found image; expected a dialogue"),
    ({"image": "../x.png", "caption": "a"}, "leads outside"),
    ({"image": "https://a/b.png", "caption": "a"}, "nothing is fetched"),
    ({"image": 3, "caption": "a"}, "found a int; expected a file's bytes or its path"),
    ({"image": b"x", "messages": "[{"}, "messages: found no JSON"),
    ({"image": b"x", "messages": [{"role": "user", "content": "<image> and <image>"}]}, "no image left for it"),
    ({"images": [b"x"] * 2, "messages": [{"role": "user", "content": "<image>?"}]}, "1 more media than marks"),
    ({"messages": [{"role": "user", "content": [{"type": "image"}]}]}, "no image left for it"),
]


@pytest.mark.parametrize(("row", "says"), FAULTS)
def test_faults_name_the_row(tmp_path: Path, row: dict[str, Any], says: str) -> None:
    filler = {"image": b"x", "caption": "a"} if "messages" not in row else {}
    schema = None
    if filler:
        columns = {name: value for name, value in {**row, **filler}.items() if name in row or name in filler}
        kinds = {int: pyarrow.int64(), bytes: pyarrow.binary(), str: pyarrow.string()}
        schema = pyarrow.schema([(name, kinds[type(row.get(name) or columns[name])]) for name in columns])
    path = tmp_path / "a.parquet"
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([row, row], schema=schema), path)
    source = HuggingFace(path)
    with pytest.raises(DataError, match=r"a\.parquet\[1\]") as caught:
        source[1]
    assert says in str(caught.value)


def test_splits_are_of_a_dictionary_a_column_or_the_files(tmp_path: Path) -> None:
    DatasetDict(train=blip3o(), test=blip3o("test")).save_to_disk(str(tmp_path / "both"))
    assert len(HuggingFace(tmp_path / "both")) == 8
    assert HuggingFace(tmp_path / "both", splits=["test"])[0].details["caption"] == " a caption of test 0 "
    with pytest.raises(ValueError, match="splits: found 'validation'; expected some of train, test"):
        HuggingFace(tmp_path / "both", splits=["validation"])
    names = datasets.ClassLabel(names=["train", "test"])
    for kind, values in ((names, [0, 1, 1]), (TEXT, ["train", "test", "test"])):
        rows = [{"jpg": b"x", "txt": f"{i}", "split": value} for i, value in enumerate(values)]
        path = table(tmp_path, rows, {"jpg": Value("binary"), "txt": TEXT, "split": kind})
        source = HuggingFace(path, splits=["test"])
        assert [source[i].details["caption"] for i in range(2)] == ["1", "2"] and source[0].details["split"] == "test"
        assert source.where(1).endswith("a.parquet[2]")
        with pytest.raises(ValueError, match="found no row whose 'split' is one of other"):
            HuggingFace(path, splits=["other"])
    (tmp_path / "files").mkdir()
    for name in ("train-00000-of-00002", "train-00001-of-00002", "test-00000-of-00001"):
        table(tmp_path / "files", [{"jpg": b"x", "txt": name}], name=name)
    assert len(HuggingFace(tmp_path / "files")) == 3 and len(HuggingFace(tmp_path / "files", splits=["train"])) == 2
    assert len(HuggingFace(tmp_path / "files" / "train-*.parquet")) == 2
    with pytest.raises(ValueError, match="neither a column of splits nor a file of dev"):
        HuggingFace(tmp_path / "files", splits=["dev"])


def test_what_the_library_loads_is_read_from_its_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder stands for a set on the hub: the library takes both, and puts the rows where we read them."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "library")
    for split in ("train", "test"):
        blip3o(split).to_parquet(str(tmp_path / "set" / f"{split}-00000-of-00001.parquet"))
    source = HuggingFace(tmp_path / "set", hub=True, splits=["test"])
    assert source.name == "set" and source.where(0).startswith(str(tmp_path / "library"))
    assert [source[i].details["caption"] for i in range(4)] == [f" a caption of test {i} " for i in range(4)]
    assert len(HuggingFace(tmp_path / "set", hub=True)) == 8


def test_row_groups_are_held_or_unpacked_and_give_the_same_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However large they are, in whatever order rows are asked for, and in bounded memory."""
    rows = [{"jpg": random.Random(i).randbytes(500 + i), "txt": f"caption {i}"} for i in range(300)]
    path = tmp_path / "a.parquet"
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path, row_group_size=70)
    order = random.Random(0).sample(range(300), 300)

    def check(source: HuggingFace) -> HuggingFace:
        for i in order:
            assert (stored(source, i)[0].data, source[i].details["caption"]) == (rows[i]["jpg"], rows[i]["txt"])
        return source

    assert not (tmp_path / "cache").exists()
    check(HuggingFace(path))
    assert not (tmp_path / "cache").exists()
    monkeypatch.setattr(table_files, "HELD", 80_000)
    assert len(check(HuggingFace(path)).records._held) == 1  # type: ignore[attr-defined]
    monkeypatch.setattr(table_files, "SMALL", 20_000)
    monkeypatch.setattr(table_files, "BATCH", 5_000)
    check(check(HuggingFace(path)))
    assert len([one for one in (tmp_path / "cache").rglob("*") if one.is_file() and one.name != "lock"]) == 4
    windowed = HuggingFace(path, window=1)
    assert windowed.chunks is not None and windowed.chunks.sizes == (70, 70, 70, 70, 20)
    assert len(check(windowed).records._held) == 2  # type: ignore[attr-defined]
    (tmp_path / "full").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "full"))
    with pytest.raises(ValueError, match=r"can't be written to .*Fix: set XDG_CACHE_HOME"):
        HuggingFace(path)[0]


def test_a_source_travels_small_and_opens_its_files_anew(tmp_path: Path) -> None:
    path = table(tmp_path, [{"jpg": random.Random(i).randbytes(2000), "txt": "a"} for i in range(100)])
    source = HuggingFace(path)
    assert source[7]
    travelled = pickle.dumps(source)
    assert len(travelled) < 3000
    assert plain(pickle.loads(travelled)[7]) == plain(source[7])


def test_what_is_no_set_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        ValueError, match=r"expected tables\. Fix: give hub: true, if HuggingFaceM4/the_cauldron is a set"
    ):
        HuggingFace("HuggingFaceM4/the_cauldron")
    with pytest.raises(ValueError, match=r"neither \.parquet.* Fix: correct the path"):
        HuggingFace(tmp_path)
    (tmp_path / "b.parquet").write_bytes(b"PAR1 nothing PAR1")
    with pytest.raises(ValueError, match=r"b\.parquet: found no readable table"):
        HuggingFace(tmp_path)
    (tmp_path / "b.arrow").write_bytes(b"nothing at all")
    with pytest.raises(ValueError, match=r"b\.arrow: found no readable table"):
        HuggingFace(tmp_path / "b.arrow")
    (tmp_path / "b.parquet").unlink()
    (tmp_path / "b.arrow").unlink()
    path = table(tmp_path, [{"jpg": b"x", "txt": "a"}])
    table(tmp_path, [{"jpg": b"x", "text": "a"}], name="b")
    with pytest.raises(ValueError, match=r"b\.parquet: found the columns jpg, text; expected those of .*a\.parquet"):
        HuggingFace(tmp_path)
    source = HuggingFace(path)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(DataError, match=r"a\.parquet\[0\]: found no readable row"):
        source[0]
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    with pytest.raises(ValueError, match="nobody/nothing: found nothing on the hub"):
        HuggingFace("nobody/nothing", hub=True)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ValueError, match=r"pip install 'isthmus\[datasets\]'"):
        HuggingFace(path)
