"""COCO's captions: the official file, Karpathy's splits, and prompts for FID on 30,000 captions.

Sources: the format at https://cocodataset.org/#format-data; Karpathy's splits of Karpathy and Fei-Fei, arXiv 1412.2306;
FID of 30,000 captions of the validation pictures of 2014 as of Ramesh et al., arXiv 2102.12092.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from isthmus.data.errors import fault
from isthmus.data.formats.benchmarks.base import HeldRecords, check_lists, read_lists
from isthmus.data.formats.benchmarks.captioned import CaptionBenchmark, Way
from isthmus.data.formats.fields import text, texts
from isthmus.types import Modality


class CocoCaptions(CaptionBenchmark):
    """Pictures with five captions or so each.

        {"images": [{"id": 1, "file_name": "000000000001.jpg"}], "annotations": [{"image_id": 1, "id": 7,
         "caption": "A cat."}]}                                                         captions_val2017.json
        {"images": [{"filepath": "val2014", "filename": "COCO_val2014_000000000001.jpg", "cocoid": 1, "split": "test",
         "sentences": [{"raw": "A cat."}]}]}                                            dataset_coco.json

    Args:
        path: either file.
        root: the folder of the pictures, such as ``val2017``; of Karpathy's file the one that holds ``val2014``.
        splits: of Karpathy's file: ``test`` and ``val`` have 5,000 pictures each.
        direction: see :class:`~isthmus.data.formats.benchmarks.captioned.CaptionBenchmark`, as all below.
        instruction: what is asked.
        seed: of the choice among captions, where pictures are made.

    Raises:
        ValueError: the file is of another form, or has no picture of these splits.
    """

    modality = Modality.IMAGE

    def __init__(
        self,
        path: str | Path,
        root: str | Path | None = None,
        splits: Sequence[str] | None = None,
        direction: Way = "describe",
        instruction: str | None = None,
        seed: int = 0,
    ) -> None:
        place, found = read_lists(path, ["images"])
        if "annotations" in found:
            check_lists(place, found, ["annotations"])
            records = HeldRecords(place, _grouped(found["images"], found["annotations"]))
            if splits:
                raise ValueError(
                    f"{place}: splits: found {', '.join(splits)} for COCO's own file, which is of one split; expected "
                    "none. Fix: leave splits out, or name the file of another split."
                )
        else:
            records = HeldRecords(place, _of_splits(place, found["images"], splits))
        super().__init__(records, root, direction, instruction, seed, {"splits": list(splits or [])})

    def pair(self, record: Mapping[str, Any], where: str) -> tuple[str, list[str], dict[str, Any]]:
        if "sentences" in record:
            folder, name = (text(record, [field], where) for field in ("filepath", "filename"))
            said = record["sentences"]
            listed = [text(one, ["raw"], where) for one in said] if isinstance(said, list) else []
            return f"{folder}/{name}", listed, {"id": text(record, ["cocoid", "imgid"], where)}
        if "file_name" not in record:
            raise fault(
                where, "found captions of a picture that 'images' lacks", "each image_id there", "take them out"
            )
        known = {"id": text(record, ["id"], where)}
        known |= {name: record[name] for name in ("caption_id", "image_id") if name in record}
        return text(record, ["file_name"], where), texts(record, ["captions"], where), known


class CocoPrompts(CocoCaptions):
    """Captions of which pictures are made, for FID: so many of them, drawn by a seed, with their own pictures.

    The choice is a function of the file, ``size`` and ``seed``; each conversation's details name its ``caption_id``.

    Args:
        path: ``captions_val2014.json``.
        root: the folder of the pictures, ``val2014``, which are the references.
        size: how many captions.
        seed: of the choice, and of the noise of the pictures that are made.
        per_image: whether no two captions are of one picture; else of all captions alike.
        instruction: what is asked, with ``{caption}``.

    Raises:
        ValueError: as :class:`CocoCaptions`, or fewer captions than ``size``.
    """

    def __init__(
        self,
        path: str | Path,
        root: str | Path | None = None,
        size: int = 30_000,
        seed: int = 0,
        per_image: bool = True,
        instruction: str | None = None,
    ) -> None:
        super().__init__(path, root, direction="draw", instruction=instruction, seed=seed)
        drawn = _drawn(self.records.path, self.records, size, seed, per_image)  # type: ignore[arg-type]  # held above
        self.records = HeldRecords(self.records.path, drawn)
        self._kept = range(len(self.records))
        self._choice |= {"size": size, "per_image": per_image}


def _grouped(images: Sequence[Any], annotations: Sequence[Any]) -> Iterator[tuple[str, Any]]:
    """Pictures in the file's order, each with its captions; then captions whose picture isn't listed."""
    captions: dict[str, list[tuple[Any, Any]]] = {}
    for one in annotations:
        own = one if isinstance(one, dict) else {}
        captions.setdefault(str(own.get("image_id")), []).append((own.get("caption"), own.get("id")))
    for number, image in enumerate(images):
        name = str(image.get("id")) if isinstance(image, dict) else ""
        said = captions.pop(name, [])
        more = {"captions": [one for one, _ in said], "caption_ids": [one for _, one in said]}
        yield f"images[{number}]", {**image, **more} if isinstance(image, dict) else image
    for name, said in captions.items():
        yield f"annotations of image_id {name}", {"id": name, "captions": [one for one, _ in said]}


def _of_splits(path: Path, images: Sequence[Any], splits: Sequence[str] | None) -> Iterator[tuple[str, Any]]:
    known: dict[str, None] = {}
    is_empty = True
    for number, image in enumerate(images):
        split = str(image.get("split")) if isinstance(image, dict) else ""
        known[split] = None
        if not splits or split in splits:
            is_empty = False
            yield f"images[{number}]", image
    if is_empty and splits:
        raise ValueError(
            f"{path}: splits: found {', '.join(known)}; expected {', '.join(splits)} among them. Fix: name others."
        )


def _drawn(path: Path, records: HeldRecords, size: int, seed: int, per_image: bool) -> Iterator[tuple[str, Any]]:
    """So many captions, each a record of its own, in the order in which they are drawn."""
    random = np.random.default_rng(seed)
    pairs: list[tuple[str, dict[str, Any], int]] = []
    for place, record in records.records:
        own = record if isinstance(record, dict) else {}
        numbers = list(range(len(own.get("captions") or own.get("sentences") or [])))
        if per_image and numbers:
            numbers = [int(random.integers(len(numbers)))]
        pairs += [(place, own, number) for number in numbers]
    if not 1 <= size <= len(pairs):
        raise ValueError(
            f"{path}: size: found {size} for {len(pairs)} captions; expected 1 to {len(pairs)}. Fix: lower it"
            f"{', or take several captions of a picture (per_image: false)' if per_image else ''}."
        )
    for chosen in random.permutation(len(pairs))[:size]:
        place, own, number = pairs[int(chosen)]
        if "sentences" in own:
            yield place, {**own, "sentences": own["sentences"][number : number + 1]}
            continue
        caption_id = own["caption_ids"][number]
        only = {"captions": own["captions"][number : number + 1], "caption_id": caption_id, "image_id": own.get("id")}
        yield place, {**own, **only, "id": caption_id if not per_image else own.get("id")}
