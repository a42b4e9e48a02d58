"""The shares of sources in training: given, or by size with a temperature."""

from __future__ import annotations

from collections.abc import Mapping


def weigh(
    where: str, sizes: Mapping[str, int], given: Mapping[str, float | None] | None, temperature: float = 1.0
) -> dict[str, float]:
    """Weights of sources.

    Without weights, p_i is proportional to n_i^(1/T): at T = 1 every item occurs equally often; with higher T shares
    become more equal, so that small sources are upsampled (Arivazhagan et al. 2019, arXiv 1907.05019, section 4; mT5,
    arXiv 2010.11934, section 3.1, whose alpha is 1 / T).

    Args:
        where: the stage, for errors.
        sizes: number of items in each source.
        given: weights by source. If some sources have none (None), weights are shares of the whole, and the others
            share the rest by size; ``{"pairs": None, "chat": None, "text": 0.2}`` takes every fifth conversation from
            ``text``. None instead of a mapping stands for all sources without weights.
        temperature: T, above 0.

    Raises:
        ValueError: the temperature isn't above 0, or the shares leave nothing for the other sources.
    """
    if not 0 < temperature < float("inf"):
        raise ValueError(f"{where}: temperature: found {temperature}; expected a number above 0. Fix: 1 is by size.")
    chosen = dict.fromkeys(sizes) if given is None else dict(given)
    stated = {source: weight for source, weight in chosen.items() if weight is not None}
    # Absent and empty sources are refused by the mixture, which names them.
    by_size: dict[str, float] = {
        source: sizes.get(source, 1) if temperature == 1 else sizes.get(source, 1) ** (1 / temperature)
        for source in chosen
        if source not in stated
    }
    if not stated or not by_size:
        return {**stated, **by_size}
    rest = 1 - sum(stated.values())
    if not 0 < rest < 1:
        raise ValueError(
            f"{where}: mixture: found shares of {sum(stated.values()):g} in all ({', '.join(stated)}); expected them "
            f"above 0 and below 1, since {', '.join(by_size)} divide the rest. Fix: lower them, or weigh every source."
        )
    whole = sum(by_size.values())
    return {**stated, **{source: rest * size / whole if whole else size for source, size in by_size.items()}}
