"""Configurations of large LLMs: as many parameters as were published, and templates that hold a conversation."""

from __future__ import annotations

from pathlib import Path

import pytest
from accelerate import init_empty_weights
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from isthmus.training.rehearsal.published_large import LARGE

SIZES = {"Llama-3.3-70B-Instruct": 70_553_706_496, "Qwen2.5-7B-Instruct": 7_615_616_512}
"""Of the published weights."""


@pytest.mark.parametrize("name", LARGE)
def test_a_configuration_has_the_published_size(name: str, tmp_path: Path) -> None:
    LARGE[name](tmp_path)
    with init_empty_weights():
        llm = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(tmp_path), trust_remote_code=False)
    assert sum(own.numel() for own in llm.parameters()) == SIZES[name]
    tokenizer = AutoTokenizer.from_pretrained(tmp_path, trust_remote_code=False)
    talk = [{"role": "user", "content": "which digit?"}]
    said = tokenizer.apply_chat_template(talk, tokenize=False, add_generation_prompt=True)
    assert "which digit?" in said and "assistant" in said.split("which digit?")[1]
