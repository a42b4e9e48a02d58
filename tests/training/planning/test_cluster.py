"""How long collectives take: the formulas of rings and trees, and links that are fitted to measurements."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from isthmus.training.planning.cluster import BASE, Cluster, Link, fit_links, read_links, steps, volume_of
from isthmus.training.rehearsal.measuring import Collective, Sent

WITHIN, BETWEEN = Link(1e-6, 300e9), Link(10e-6, 100e9)
OPERATIONS = ("all_reduce", "all_gather", "reduce_scatter")
GB = 10**9


def cluster(devices: int, per_machine: int = 8) -> Cluster:
    return Cluster(devices, per_machine, 80 * 2**30, 1e15, WITHIN, BETWEEN)


def group(kind: str, ranks: int, every: int = 1) -> Collective:
    return Collective(kind, tuple(range(0, ranks * every, every)))


def test_a_ring_within_a_machine() -> None:
    found = cluster(8).seconds(group("all_gather", 8), Sent(3, 6 * GB))
    assert found == pytest.approx(3 * (BASE + 7 * 1e-6) + 7 / 8 * 6 * GB / 300e9)


def test_a_ring_over_machines_takes_the_slower_of_both_links() -> None:
    found = cluster(32).seconds(group("reduce_scatter", 32), Sent(1, GB))
    assert found == pytest.approx(BASE + 28 * 1e-6 + 3 * 10e-6 + 31 / 32 * GB / 100e9)


def test_an_all_reduce_moves_twice_as_much_and_takes_a_tree_where_latency_counts() -> None:
    own = cluster(1024)
    large, small = (own.seconds(group("all_reduce", 1024), Sent(1, size)) for size in (100 * GB, 4))
    assert large == pytest.approx(2 * 1023 / 1024 * 100 * GB / 100e9, rel=0.01)
    assert small == pytest.approx(BASE + 2 * (7 * 1e-6 + 7 * 10e-6), rel=0.01)


def test_a_group_of_one_rank_a_machine_shares_the_machines_network_with_its_like() -> None:
    own = cluster(32)
    apart, together = own.seconds(group("all_gather", 4, every=8), Sent(1, GB)), 3 / 4 * GB / (100e9 / 8)
    assert apart == pytest.approx(together, rel=0.01)
    assert own.seconds(group("all_gather", 1), Sent(1, GB)) == 0.0


def rows(kinds: tuple[str, ...] = OPERATIONS, sizes: tuple[int, ...] = (1 << 12, 1 << 18, 1 << 24)) -> list[dict]:
    """What a link of 300 us and 25 MB/s gives; reduce-scatters take twice as long."""
    found = []
    for kind in kinds:
        for size in sizes:
            for ranks in (2, 4):
                own = group(kind, ranks)
                seconds = steps(own) * 3e-4 + volume_of(own) * size / 25e6
                found.append({"operation": kind, "bytes": size, "ranks": ranks, "seconds": seconds})
                found[-1]["seconds"] *= 2 if kind == "reduce_scatter" else 1
    return found


def test_a_link_is_found_in_what_crossed_it_and_says_how_long_it_takes(tmp_path: Path) -> None:
    file = tmp_path / "network.json"
    file.write_text(json.dumps({"rows": rows()}), encoding="utf-8")
    fitted = read_links(file)
    assert fitted.error == pytest.approx(0.0, abs=1e-6) and fitted.count == 18
    assert fitted.links["all_reduce"].latency == pytest.approx(3e-4)
    assert fitted.links["reduce_scatter"].bandwidth == pytest.approx(12.5e6)
    own = replace(cluster(4, per_machine=2), measured=fitted.links)
    for row in rows():
        found = own.seconds(group(row["operation"], row["ranks"]), Sent(1, row["bytes"]))
        if row["ranks"] == 4:
            assert found == pytest.approx(row["seconds"])


def test_a_latency_too_small_to_show_isnt_negative() -> None:
    found = fit_links([row | {"seconds": row["bytes"] / 1e9 - 1e-7} for row in rows(("all_gather",))])
    assert found.links["all_gather"].latency == 0.0


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("no JSON", "found nothing that can be read as JSON"),
        ("{}", "found no list of measured collectives"),
        ('[{"operation": "all_reduce"}]', "row 0: found no bytes, ranks, seconds"),
        (json.dumps(rows(sizes=(8,))), "found all_gather of one size"),
    ],
)
def test_a_file_that_says_nothing_is_refused(content: str, said: str, tmp_path: Path) -> None:
    file = tmp_path / "network.json"
    file.write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=rf"{said}.*expected.*Fix: "):
        read_links(file)


@pytest.mark.parametrize("ranks", [2, 4, 64])
def test_a_reduction_is_scattered_and_gathered(ranks: int) -> None:
    parts = [volume_of(group(kind, ranks)) for kind in ("reduce_scatter", "all_gather")]
    assert sum(parts) == pytest.approx(volume_of(group("all_reduce", ranks)))
