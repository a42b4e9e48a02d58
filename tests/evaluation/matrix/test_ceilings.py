"""Ceilings: the generator is told the true caption, measured once for all that decides them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from drawn_answers import pocket_judges
from tiny_world import tiny_model

from isthmus.data.conversations.schema import Conversation, MediumItem, Message, TextItem
from isthmus.data.conversations.sources import ConversationSource
from isthmus.data.sampling.seeds import derive_seed
from isthmus.evaluation.matrix.ceilings import Ceiling, measure_ceilings
from isthmus.evaluation.matrix.judge import Judge, Reading
from isthmus.modalities import MEDIA
from isthmus.model import AnyToAny
from isthmus.pocket.judges.base import agreement
from isthmus.pocket.references import References
from isthmus.pocket.world import Concept
from isthmus.types import Condition, Modality

REFERENCES = References(size=50)


class Brightness:
    """Reads a digit from how bright a picture is: something that differs from picture to picture, whatever it shows."""

    attributes = ("digit",)

    def __init__(self, shift: int = 0) -> None:
        self.shift = shift
        self.asked = 0

    def many(self, media: Any) -> list[Reading]:
        self.asked += len(media)
        return [{"digit": (int(medium.array.mean()) + self.shift) % 10} for medium in media]


class Listed(ConversationSource):
    name = "listed"

    def __init__(self, conversations: Sequence[Conversation]) -> None:
        self.conversations = list(conversations)

    def __len__(self) -> int:
        return len(self.conversations)

    def __getitem__(self, index: int) -> Conversation:
        return self.conversations[index]


@pytest.fixture
def model(tiny_experts_paths: dict[str, Path]) -> AnyToAny:
    model = tiny_model(tiny_experts_paths, inputs=(), outputs=("image", "video"))
    model.configure_model()
    return model.eval()


def references_of(modality: str) -> list[Conversation]:
    def is_of(conversation: Conversation) -> bool:
        (item,) = conversation.messages[-1].content
        return (item.modality if isinstance(item, MediumItem) else "text") == modality

    return [conversation for conversation in map(REFERENCES.__getitem__, range(len(REFERENCES))) if is_of(conversation)]


def test_judges_are_measured_on_real_media(model: AnyToAny, repository: Path) -> None:
    judges = pocket_judges(repository)
    ceilings = measure_ceilings(model, REFERENCES, judges)
    assert set(ceilings) == {"text", *MEDIA}
    for modality, ceiling in ceilings.items():
        own = references_of(modality)
        assert ceiling.n == len(own) == 10
        items = [conversation.messages[-1].content[0] for conversation in own]
        media = [item.text if isinstance(item, TextItem) else item.media for item in items]
        concepts = [Concept(**conversation.details["expect"]) for conversation in own]
        right = [agreement(*pair) for pair in zip(judges[modality].many(media), concepts, strict=True)]
        for name, share in ceiling.judge.items():
            found = [each[name] for each in right if name in each]
            assert share == sum(found) / len(found)
        assert ceiling.judge["digit"] >= 0.9
    assert ceilings[Modality.TEXT].generated == ceilings[Modality.TEXT].judge == {"digit": 1, "colour": 1, "motion": 1}
    assert ceilings[Modality.AUDIO].generated is None, "this model makes no audio"


def test_the_generator_is_told_the_true_caption(model: AnyToAny) -> None:
    judge = Brightness()
    (ceiling,) = measure_ceilings(model, REFERENCES, {"image": judge}).values()
    own = references_of("image")
    assert model.output_side is not None
    generator = model.output_side.generator(Modality.IMAGE)
    told = generator.condition([conversation.messages[-1].content[0].caption for conversation in own]).tokens  # type: ignore[union-attr]
    digits = [conversation.details["expect"]["digit"] for conversation in own]
    seeds = [derive_seed("ceiling", row) % 2**31 for row in range(len(own))]
    made = judge.many(generator.generate(Condition(told), seeds))
    assert ceiling.generated == {"digit": sum(r["digit"] == d for r, d in zip(made, digits, strict=True)) / len(own)}


def test_ceilings_are_measured_once(model: AnyToAny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = tmp_path / "pocket" / "ceilings.json"
    judge = Brightness()
    first = measure_ceilings(model, REFERENCES, {"image": judge}, cache)
    assert judge.asked == 20, "ten real ones, ten that were made"
    written = cache.read_text(encoding="utf-8")
    assert [record["n"] for record in json.loads(written).values()] == [10]

    assert model.output_side is not None
    generator = model.output_side.generator(Modality.IMAGE)
    with monkeypatch.context() as patch:
        patch.setattr(generator, "generate", lambda *_: pytest.fail("it was measured before"))
        assert measure_ceilings(model, REFERENCES, {"image": judge}, cache) == first
    assert cache.read_text(encoding="utf-8") == written

    # Another judge, other captions or another way to sample: each is measured for itself, and what was known stays.
    measure_ceilings(model, REFERENCES, {"image": Brightness(shift=1)}, cache)
    measure_ceilings(model, References(size=40, seed=1), {"image": judge}, cache)
    monkeypatch.setattr(generator, "num_inference_steps", 3)
    measure_ceilings(model, REFERENCES, {"image": judge}, cache)
    assert len(json.loads(cache.read_text(encoding="utf-8"))) == 4
    assert json.loads(written).items() <= json.loads(cache.read_text(encoding="utf-8")).items()


def test_a_cache_that_cannot_be_written_is_no_fault(
    model: AnyToAny, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    ceilings = measure_ceilings(model, REFERENCES, {"image": Brightness()}, tmp_path / "file" / "ceilings.json")
    assert ceilings[Modality.IMAGE].generated is not None
    assert "the ceilings can't be saved" in caplog.text


def test_references_that_are_none_are_named(model: AnyToAny, tmp_path: Path) -> None:
    text = Message("assistant", (TextItem("a red three"),))
    for faulty in (
        Conversation((text,)),
        Conversation((text, Message("user", (TextItem("hm"),))), {"expect": {"digit": 3}}),
        Conversation((Message("assistant", (MediumItem(Modality.IMAGE, None, "a three"),)),), {"expect": {"digit": 3}}),
    ):
        with pytest.raises(ValueError, match=r"listed/0: found no reference; expected .*details\.expect"):
            measure_ceilings(model, Listed([faulty]), {"image": Brightness()})
    broken = tmp_path / "ceilings.json"
    broken.write_text("{", encoding="utf-8")
    with pytest.raises(ValueError, match=r"ceilings\.json: found no JSON"):
        measure_ceilings(model, REFERENCES, {"image": Brightness()}, broken)


def test_models_without_generators_have_no_ceilings(tiny_experts_paths: dict[str, Path]) -> None:
    model = tiny_model(tiny_experts_paths, outputs=())
    judges: dict[str, Judge] = {"image": Brightness()}
    (ceiling,) = measure_ceilings(model, REFERENCES, judges).values()
    assert isinstance(ceiling, Ceiling) and ceiling.generated is None and ceiling.n == 10
