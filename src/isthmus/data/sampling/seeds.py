"""Seeds and permutations from names and numbers: the same on every machine and with every library version."""

from __future__ import annotations

from hashlib import blake2b


def derive_seed(*parts: str | int) -> int:
    """A number in [0, 2^63) from all parts and their types. Python's ``hash`` differs from process to process."""
    digest = blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def permuted(position: int, size: int, seed: int) -> int:
    """The image of ``position`` under a seeded permutation of range(size): a Feistel network with cycle walking.

    It needs no memory for sources of any size, and doesn't depend on library versions, so that a run can be resumed
    with another version.
    """
    assert 0 <= position < size
    half = max(1, ((size - 1).bit_length() + 1) // 2)
    low = (1 << half) - 1
    value = position
    while True:  # the network permutes 4^half values, more than a quarter of which are below size
        left, right = value >> half, value & low
        for turn in range(4):
            left, right = right, left ^ (derive_seed(seed, turn, right) & low)
        value = left << half | right
        if value < size:
            return value
