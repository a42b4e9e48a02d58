"""Finds new test samples: training has neither their captions nor samples listed as similar to them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from isthmus.data.conversations.sources import ConversationSource


def captions_of(details: Mapping[str, Any], field: str) -> list[str]:
    """The captions in ``field`` of a conversation's details: a text, or a list of them.

    Raises:
        ValueError: there is none.
    """
    found = details.get(field)
    expected = [found] if isinstance(found, str) else found
    if not isinstance(expected, list) or not expected or not all(isinstance(one, str) for one in expected):
        raise ValueError(
            f"{details.get('id')}: {field}: found {'nothing' if found is None else repr(str(found)[:60])}; expected "
            f"a caption or a list of them to compare with, among {', '.join(details) or 'no details'}. Fix: name the "
            "field that holds it in the evaluation's 'reference', or give the source's records captions."
        )
    return expected


def new_among(
    captions: Mapping[str, Collection[str]], training: ConversationSource | None, field: str, twins: Collection[str]
) -> set[str] | None:
    """The ids of new samples; None if neither training nor twins are given.

    Args:
        captions: of each test sample, by its id.
        training: the training split.
        field: the detail that holds its captions.
        twins: ids of samples that resemble training samples.

    Raises:
        ValueError: a training record has no caption.
    """
    if training is None and not twins:
        return None
    details = () if training is None else (training[index].details for index in range(len(training)))
    known = {one for each in details for one in captions_of(each, field)}
    return {name for name, own in captions.items() if name not in twins and known.isdisjoint(own)}
