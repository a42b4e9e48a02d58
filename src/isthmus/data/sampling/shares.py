"""Each source's share of training: given, or by its size under a temperature."""

from __future__ import annotations

from collections.abc import Mapping


def weigh(
    where: str, sizes: Mapping[str, int], given: Mapping[str, float | None] | None, temperature: float = 1.0
) -> dict[str, float]:
    """Weights of sources.

    Without weights, p_i is proportional to n_i^(1/T): at T = 1 every item comes equally often, and the higher T, the
    nearer shares are to equal ones, so that small sources are read more often (Arivazhagan et al. 2019, arXiv
    1907.05019, section 4; mT5, arXiv 2010.11934, section 3.1, whose alpha is 1 / T).

    Args:
        where: the stage, for errors.
        sizes: items in each source.
        given: weights by source. Beside sources without one (None), a weight is a share of all, and these divide the
            rest; ``{"pairs": None, "chat": None, "text": 0.2}`` makes every fifth conversation one of ``text``. None
            stands for every source without a weight.
        temperature: T, above 0.

    Raises:
        ValueError: a temperature that isn't above 0, or shares that leave nothing for the other sources.
    """
    if not 0 < temperature < float("inf"):
        raise ValueError(f"{where}: temperature: found {temperature}; expected a number above 0. Fix: 1 is by size.")
    chosen = dict.fromkeys(sizes) if given is None else dict(given)
    told = {source: weight for source, weight in chosen.items() if weight is not None}
    # Who isn't there or is empty is refused by the mixture, by name.
    by_size: dict[str, float] = {
        source: sizes.get(source, 1) if temperature == 1 else sizes.get(source, 1) ** (1 / temperature)
        for source in chosen
        if source not in told
    }
    if not told or not by_size:
        return {**told, **by_size}
    rest = 1 - sum(told.values())
    if not 0 < rest < 1:
        raise ValueError(
            f"{where}: mixture: found shares of {sum(told.values()):g} in all ({', '.join(told)}); expected them above "
            f"0 and below 1, since {', '.join(by_size)} divide the rest. Fix: lower them, or weigh every source."
        )
    whole = sum(by_size.values())
    return {**told, **{source: rest * size / whole if whole else size for source, size in by_size.items()}}
