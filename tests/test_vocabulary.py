"""Ids of tags and signal tokens: each one's own, in one fixed order, after the LLM's."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.modalities import DEPTH, IMU, MEDIA, THERMAL, Modality
from isthmus.types import IGNORED
from isthmus.vocabulary import MEDIA_POSITION, Vocabulary

signals = st.dictionaries(st.sampled_from([str(modality) for modality in MEDIA]), st.integers(1, 40))


@given(base=st.integers(1, 200_000), counts=signals)
def test_every_new_id_has_one_use_and_one_name(base: int, counts: dict[str, int]) -> None:
    vocabulary = Vocabulary(base, counts)
    tags = [tag for modality in MEDIA for tag in vocabulary.tags(modality)]
    runs = [token for modality in MEDIA for token in vocabulary.signal_ids(modality)]
    assert tags + runs == list(range(base, vocabulary.size)), "tags first, then runs, without gaps"
    assert len(tags) == vocabulary.tag_rows and len(runs) == vocabulary.signal_rows
    for modality in MEDIA:
        count = counts.get(modality, modality.spec.signals)
        assert len(vocabulary.signal_ids(modality)) == count == vocabulary.signal_counts[modality]
    assert vocabulary.starts() == {vocabulary.signal_ids(modality)[0]: modality for modality in MEDIA}
    names = [vocabulary.token_name(token) for token in range(base, vocabulary.size)]
    assert len(set(names)) == len(names)
    assert MEDIA_POSITION not in range(vocabulary.size)


@given(counts=signals, modality=st.sampled_from(MEDIA), more=st.integers(1, 40))
def test_a_modalitys_count_moves_only_what_comes_after_it(
    counts: dict[str, int], modality: Modality, more: int
) -> None:
    one, other = Vocabulary(100, counts), Vocabulary(100, counts | {str(modality): more})
    for owner in MEDIA:
        assert one.tags(owner) == other.tags(owner)
    for owner in MEDIA[: MEDIA.index(modality)]:
        assert one.signal_ids(owner) == other.signal_ids(owner)
    assert one.signal_ids(modality)[0] == other.signal_ids(modality)[0]


def test_counts_are_the_papers_unless_given() -> None:
    assert Vocabulary(32000).signal_counts == {"image": 4, "video": 24, "audio": 8, "points": 8}
    given_counts = {"image": 2}
    vocabulary = Vocabulary(32000, given_counts)
    assert vocabulary.signal_counts["image"] == 2 and vocabulary.signal_counts["video"] == 24
    assert Modality.IMAGE.spec.signals == 4 and given_counts == {"image": 2}


def test_names_are_printable() -> None:
    vocabulary = Vocabulary(100, {"image": 2})
    assert [vocabulary.token_name(token) for token in (100, 101, 102, 107)] == [
        "<image>",
        "</image>",
        "<video>",
        "</points>",
    ]
    assert [vocabulary.token_name(token) for token in (108, 109, 110)] == ["[image 0]", "[image 1]", "[video 0]"]
    for token in (99, vocabulary.size, MEDIA_POSITION):
        with pytest.raises(ValueError, match=rf"token {token} isn't one of the 50 new tokens from 100"):
            vocabulary.token_name(token)


def test_counts_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="signals: unknown modality 'text'; known: image, video, audio, points"):
        Vocabulary(100, {"text": 3})
    with pytest.raises(ValueError, match=r"signals.audio: found 0; a medium needs at least one signal token"):
        Vocabulary(100, {"audio": 0})


def test_modalities_that_a_model_serves_stand_behind_those_that_all_have() -> None:
    vocabulary = Vocabulary(100, {"imu": 3})
    vocabulary.include([THERMAL, DEPTH, Modality.IMAGE])
    assert vocabulary.media == (*MEDIA, DEPTH, IMU, THERMAL), "in the order of their names, whoever asks first"
    plain = Vocabulary(100)
    assert [vocabulary.tags(modality) for modality in MEDIA] == [plain.tags(modality) for modality in MEDIA]
    assert vocabulary.signal_counts == plain.signal_counts | {"depth": 8, "imu": 3, "thermal": 8}
    ids = [token for modality in vocabulary.media for token in vocabulary.signal_ids(modality)]
    assert ids == list(range(100 + 14, vocabulary.size)) and vocabulary.token_name(ids[-1]) == "[thermal 7]"
    with pytest.raises(ValueError, match=r"found imu; this model has tokens for image, .*Fix: give it an encoder"):
        plain.signal_ids(IMU)


def test_the_first_release_of_nextgpt_numbers_its_own() -> None:
    vocabulary = Vocabulary(32_000, {"audio": 8, "image": 4, "video": 24}, is_nextgpt_v1=True)
    assert {vocabulary.tags(modality) for modality in MEDIA} == {(32_000, 32_001)}
    runs = [vocabulary.signal_ids(modality) for modality in (Modality.IMAGE, Modality.VIDEO, Modality.AUDIO)]
    assert runs == [range(32_002, 32_006), range(32_006, 32_030), range(32_030, 32_038)]
    assert vocabulary.size == 32_038 and vocabulary.predicted == list(range(32_000, 32_038))
    assert Modality.POINTS not in vocabulary.signal_counts and Modality.POINTS not in vocabulary.starts().values()
    assert vocabulary.run_labels(Modality.IMAGE) == [32_002, 32_003, 32_004, 32_005], "every token is learnt"
    ours = Vocabulary(32_000)
    assert ours.run_labels(Modality.IMAGE) == [32_008, *[IGNORED] * 3] and ours.predicted == list(ours.starts())
