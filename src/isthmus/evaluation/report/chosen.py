"""Which answers a report shows of a test source: a random choice, and the best and worst by a score."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from isthmus.data.sampling.seeds import derive_seed
from isthmus.evaluation.comparing.stored import StoredFigure
from isthmus.evaluation.predictions.answered import Answered


@dataclass(frozen=True)
class SourceAnswers:
    """The answers of a test source, which are read one by one.

    Attributes:
        ids: of its conversations.
        read: a place among them -> the conversation and its answer.
    """

    ids: Sequence[str]
    read: Callable[[int], Answered]


@dataclass(frozen=True)
class Group:
    """Answers that are shown together: their title, and each with its scores by metric."""

    title: str
    samples: Sequence[tuple[Answered, Mapping[str, float]]]


def chosen(name: str, answers: SourceAnswers, figures: Mapping[str, StoredFigure], most: int) -> list[Group]:
    """The groups of a source, the same in every run.

    Args:
        name: the source's.
        answers: its own.
        figures: of all sources.
        most: answers of each group.
    """
    own = {figure.partition("/")[2]: stored for figure, stored in figures.items() if figure.startswith(f"{name}/")}
    scored = {figure: stored for figure, stored in own.items() if stored.scores}

    def group(title: str, places: Sequence[int]) -> Group:
        samples = [
            (
                answers.read(place),
                {figure: stored.scores[ident] for figure, stored in scored.items() if ident in stored.scores},
            )
            for place in places
            for ident in [answers.ids[place]]
        ]
        return Group(title, samples)

    drawn = sorted(range(len(answers.ids)), key=lambda place: derive_seed("report", name, place))[:most]
    groups = [group("drawn at random", sorted(drawn))]
    if scored:
        figure, stored = next(iter(scored.items()))
        sign = 1 if stored.better == "higher" else -1
        places = [place for place, ident in enumerate(answers.ids) if ident in stored.scores]
        places.sort(key=lambda place: (-sign * stored.scores[answers.ids[place]], place))
        best = places[:most]
        worst = [place for place in reversed(places) if place not in best][:most]
        groups += [group(f"best by {figure}", best), *([group(f"worst by {figure}", worst)] if worst else [])]
    return groups
