"""Sets through Parquet and through plain tars: the same batches, bit for bit, as through their manifests."""

from __future__ import annotations

import io
import json
import resource
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from data.conversations import make_collator
from data.formats.tables import digest, picture, two
from torch import Tensor

from isthmus.data.batching.collate import Collator
from isthmus.data.batching.loader import ConversationLoader, StartMethod
from isthmus.data.conversations.planning import Planner
from isthmus.data.conversations.schema import MediumItem
from isthmus.data.conversations.sources import ConversationSource
from isthmus.data.formats import HuggingFace, ManifestSource, WebDataset
from isthmus.data.media.limits import MediaLimits
from isthmus.data.sampling.mixture import Mixture
from isthmus.data.streaming.records import as_record
from isthmus.types import MEDIA, Batch

SETS = {"emoji": 19, "digits": 193}
"""Set -> of how many records one is taken: a hundred or more of each, of all modalities."""


@pytest.fixture
def witness(planner: Planner) -> Collator:
    return make_collator(planner, preprocess=dict.fromkeys(MEDIA, digest), positions=two, outputs=MEDIA, prepare={})


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def subset(root: Path, name: str, folder: Path) -> dict[str, ConversationSource]:
    """Some records of a set: through their manifest, as Parquet, and as tars."""
    root = root / "data" / name
    lines = (root / "manifest.jsonl").read_text(encoding="utf-8").splitlines()[:: SETS[name]]
    (folder / "manifest.jsonl").write_text("\n".join(lines), encoding="utf-8")
    manifest = ManifestSource(folder / "manifest.jsonl", root)
    rows: list[dict[str, Any]] = []
    with tarfile.open(folder / "a.tar", "w") as tar:
        for index in range(len(manifest)):
            conversation = manifest[index]
            (ending, data), *_ = as_record(conversation, "here", MediaLimits()).files
            kind = next(i.modality for m in conversation.messages for i in m.content if isinstance(i, MediumItem))
            known = conversation.details
            rows.append({**known, str(kind): {"bytes": data, "path": f"{index}{ending}"}})
            files = {f"{index:06d}{ending}": data, f"{index:06d}.json": json.dumps(known).encode()}
            for member, content in files.items():
                head = tarfile.TarInfo(member)
                head.size = len(content)
                tar.addfile(head, io.BytesIO(content))
    columns = sorted({key for row in rows for key in row})
    table = pyarrow.Table.from_pylist([{key: row.get(key) for key in columns} for row in rows])
    pyarrow.parquet.write_table(table, folder / "a.parquet", row_group_size=40)
    return {"manifest": manifest, "parquet": HuggingFace(folder / "a.parquet"), "tar": WebDataset(folder / "a.tar")}


def batches(
    source: ConversationSource, collator: Collator, workers: int = 0, start: StartMethod | None = None
) -> ConversationLoader:
    schedule = Mixture("stage", {"set": len(source)}, {"set": 1.0}, 16, epochs=1.0, seed=3)
    return ConversationLoader(schedule, {"set": source}, collator, workers, multiprocessing_context=start)


def parts(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Every tensor and every plain value of a batch, by where it is."""
    if is_dataclass(value) and not isinstance(value, type):
        for field in fields(value):
            yield from parts(getattr(value, field.name), f"{name}.{field.name}")
    elif isinstance(value, Mapping):
        for key in sorted(value, key=str):
            yield from parts(value[key], f"{name}[{key}]")
    elif isinstance(value, list | tuple):
        for place, inner in enumerate(value):
            yield from parts(inner, f"{name}[{place}]")
    else:
        yield name, (value.dtype, value.tolist()) if isinstance(value, Tensor) else value


def assert_equal(one: list[Batch], other: list[Batch]) -> None:
    assert len(one) == len(other) > 0
    for ours, theirs in zip(one, other, strict=True):
        assert dict(parts(ours)) == dict(parts(theirs))


@pytest.mark.parametrize("name", SETS)
def test_batches_are_those_of_the_manifest(shared: Path, tmp_path: Path, witness: Collator, name: str) -> None:
    sources = subset(shared, name, tmp_path)
    expected = list(batches(sources["manifest"], witness))
    assert len({kind for batch in expected for kind in batch.media}) >= 2
    for form in ("parquet", "tar"):
        assert_equal(list(batches(sources[form], witness)), expected)


@pytest.mark.parametrize("start", ["fork", pytest.param("forkserver", marks=pytest.mark.slow)])
def test_workers_of_every_kind_go_on_in_the_middle(
    shared: Path, tmp_path: Path, witness: Collator, start: StartMethod
) -> None:
    sources = subset(shared, "emoji", tmp_path)
    expected = list(batches(sources["manifest"], witness))
    for form in ("parquet", "tar"):
        broken_off = batches(sources[form], witness, 1, start)
        begun = iter(broken_off)
        first = [next(begun) for _ in range(3)]
        state = broken_off.state_dict()
        begun.close()  # type: ignore[attr-defined]
        resumed = batches(sources[form], witness, 1, start)
        resumed.load_state_dict(state)
        assert_equal([*first, *resumed], expected)


def resident() -> int:
    """Bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1]) * resource.getpagesize()


@pytest.mark.slow
@pytest.mark.parametrize("group", [1_000, 250_000])
def test_a_million_rows_take_little_memory_and_go_on_in_the_middle(
    tmp_path: Path, witness: Collator, group: int
) -> None:
    """Whether row groups are held or, being large, unpacked to disk."""
    size, path = 1_000_000, tmp_path / "million.parquet"
    pictures = [picture(number) for number in range(97)]
    image = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
    schema = pyarrow.schema([("image", image), ("caption", pyarrow.string())])
    images = pyarrow.array([{"bytes": pictures[i % 97], "path": None} for i in range(group)], type=image)
    with pyarrow.parquet.ParquetWriter(path, schema) as writer:
        for begin in range(0, size, group):
            captions = pyarrow.array([f"picture {i}" for i in range(begin, begin + group)])
            writer.write_table(pyarrow.table([images, captions], schema=schema), row_group_size=group)
    before = resident()
    whole = batches(HuggingFace(path), witness)
    read = [batch for batch, _ in zip(whole, range(60), strict=False)]
    assert resident() - before < 300 << 20
    broken_off = batches(HuggingFace(path), witness)
    begun = iter(broken_off)
    for _ in range(40):
        next(begun)
    resumed = batches(HuggingFace(path), witness)
    resumed.load_state_dict(broken_off.state_dict())
    assert_equal([batch for batch, _ in zip(resumed, range(20), strict=False)], read[40:])
