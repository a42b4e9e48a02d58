"""One tokenizer, planner and collator for the whole room."""

from __future__ import annotations

import pytest
from data.conversations import byte_level, make_collator
from transformers import PreTrainedTokenizerFast

from isthmus.data.batching.collate import Collator
from isthmus.data.conversations.planning import Planner
from isthmus.vocabulary import Vocabulary


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    return byte_level()


@pytest.fixture(scope="session")
def planner(tokenizer: PreTrainedTokenizerFast) -> Planner:
    return Planner(tokenizer, Vocabulary(len(tokenizer)))


@pytest.fixture(scope="session")
def collator(planner: Planner) -> Collator:
    return make_collator(planner)
