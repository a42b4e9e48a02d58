"""The instruments themselves, on work whose cost is known."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from benchmarks.measuring import flops, interleaved, peak_bytes, ratio
from benchmarks.report import report
from torch.nn import functional


def test_flops_of_a_product_and_its_backward() -> None:
    weight = torch.randn(8, 16, requires_grad=True)
    states = torch.randn(4, 16, requires_grad=True)
    assert flops(lambda: states.detach() @ weight.T) == 2 * 4 * 8 * 16
    assert flops(lambda: (states @ weight.T).sum().backward()) == 3 * 2 * 4 * 8 * 16


def test_flops_of_attention() -> None:
    query = torch.randn(1, 2, 5, 8)
    assert flops(lambda: functional.scaled_dot_product_attention(query, query, query)) == 2 * (2 * 2 * 5 * 5 * 8)


def test_peak_counts_what_lives_at_once_and_no_view_twice() -> None:
    def work() -> None:
        first = torch.zeros(1000)
        seen = first.view(10, 100)
        second = seen + 1
        del first, seen
        torch.zeros(500).add_(second.flatten()[:500])

    assert peak_bytes(work) == 2 * 4 * 1000
    held = torch.zeros(100_000)
    assert peak_bytes(held.sum) < 100


def test_rounds_are_interleaved_and_compared_in_pairs() -> None:
    order: list[str] = []
    seconds = interleaved({name: lambda name=name: order.append(name) for name in "abc"}, repetitions=2)
    assert {name: len(values) for name, values in seconds.items()} == {"a": 2, "b": 2, "c": 2}
    assert order == ["a", "b", "c", "b", "c", "a", "c", "a", "b"]
    assert ratio([2.0, 8.0, 30.0], [1.0, 2.0, 10.0]) == 3.0


def test_a_report_is_a_table_and_json(tmp_path: Path, capsys: object) -> None:
    file = report("it", [{"a": 1.23456, "b": "x"}, {"a": None, "c": 2}], tmp_path, goal=2)
    content = json.loads(file.read_text(encoding="utf-8"))
    assert content["rows"][0]["a"] == 1.23456 and content["goal"] == 2 and content["machine"]["torch"]
    lines = capsys.readouterr().out.splitlines()  # type: ignore[attr-defined]
    assert lines[2].split() == ["a", "b", "c"] and lines[3].split() == ["1.23", "x", "-"]
