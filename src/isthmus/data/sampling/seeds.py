"""Seeds and permutations from names and numbers: the same on every machine, in every process, under every version."""

from __future__ import annotations

from hashlib import blake2b


def derive_seed(*parts: str | int) -> int:
    """A number in [0, 2^63) from every part and its type. Python's own ``hash`` differs from process to process."""
    digest = blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def permuted(position: int, size: int, seed: int) -> int:
    """Where a seeded permutation of range(size) takes ``position``: a Feistel network, walked until it lands inside.

    It takes no memory however large a source is, and is the same under every library version, so that a run can be
    resumed under another.
    """
    assert 0 <= position < size
    half = max(1, ((size - 1).bit_length() + 1) // 2)
    low = (1 << half) - 1
    value = position
    while True:  # the network permutes 4^half values, of which more than a quarter are inside
        left, right = value >> half, value & low
        for turn in range(4):
            left, right = right, left ^ (derive_seed(seed, turn, right) & low)
        value = left << half | right
        if value < size:
            return value
