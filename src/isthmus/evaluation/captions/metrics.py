"""Caption metrics: BLEU, ROUGE-L and CIDEr-D, as the COCO caption evaluation defines them.

BLEU is torchmetrics'. It has no CIDEr, and its ROUGE-L weighs precision and recall equally, where COCO's favours
recall. METEOR and SPICE are programs in Java (:mod:`isthmus.evaluation.metrics.texts`).
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence

import numpy as np

from isthmus.evaluation.intervals import bootstrap_interval

BETA = 1.2
"""ROUGE-L: the weight of recall relative to precision."""
ORDER = 4
"""CIDEr: the largest n of n-grams."""
SIGMA = 6.0
"""CIDEr-D: the standard deviation of the Gaussian length penalty, in bigrams."""

Words = list[str]
Vector = dict[tuple[str, ...], float]
_MARKS = re.compile(r"""[.,;:!?"()\[\]{}`]|--+|'(?!\w)|(?<!\w)'""")
_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff"
    "\uf900-\ufaff\U00020000-\U0003ffff]"
)
"""Letters of scripts that write no spaces between words: Thai, Lao, Burmese, Khmer, kana, Chinese characters."""


def split_words(caption: str) -> Words:
    """Lower-case words without punctuation; COCO's own splitter is a Java program that mostly does the same.

    Where a script writes no spaces, each character is a word, with the vowel signs and tone marks above and below it:
    BLEU and the like of Chinese, Japanese and Thai are commonly given by characters. Wide letters are ordinary ones.
    """
    parts: list[str] = []
    is_parted = False
    for letter in unicodedata.normalize("NFKC", caption).lower().replace("\u2019", "'"):
        kind = unicodedata.category(letter)
        if kind not in ("Mn", "Mc"):
            was_parted, is_parted = is_parted, _UNSPACED.match(letter) is not None
            parts += [" "] * (was_parted or is_parted)
        parts.append(" " if kind.startswith("P") and not letter.isascii() else letter)
    return _MARKS.sub(" ", "".join(parts)).split()


def bleu(captions: Sequence[Words], references: Sequence[Sequence[Words]]) -> list[float]:
    """BLEU-1 to BLEU-4 of the whole corpus. Source: K. Papineni et al., ACL 2002."""
    from torchmetrics.functional.text import bleu_score

    found = [" ".join(caption) for caption in captions]
    # Of references whose lengths are equally near, torchmetrics takes the first, and COCO the shorter.
    expected = [[" ".join(one) for one in sorted(each, key=len)] for each in references]
    return [float(bleu_score(found, expected, n_gram=order)) for order in range(1, ORDER + 1)]


def rouge_l(captions: Sequence[Words], references: Sequence[Sequence[Words]]) -> list[float]:
    """Each caption's ROUGE-L: the F-measure of the best precision and recall of a longest common subsequence.

    Source: C.-Y. Lin, Text Summarization Branches Out, 2004, equations 2 to 4.
    """
    scores = []
    for caption, own in zip(captions, references, strict=True):
        common = [_common(caption, one) for one in own]
        precision = max(length / max(len(caption), 1) for length in common)
        recall = max(length / max(len(one), 1) for length, one in zip(common, own, strict=True))
        weighed = recall + BETA**2 * precision
        scores.append((1 + BETA**2) * precision * recall / weighed if weighed else 0.0)
    return scores


def cider(captions: Sequence[Words], references: Sequence[Sequence[Words]]) -> list[float]:
    """Each caption's CIDEr-D, from 0 to 10. Document frequencies of n-grams are counted over these references.

    Source: R. Vedantam et al., CVPR 2015, section 5 with the clipping and the penalty of its CIDEr-D.
    """
    holding = Counter(gram for own in references for gram in {gram for one in own for gram in _grams(one)})
    total = math.log(len(references))

    def vectors(counts: Counter[tuple[str, ...]]) -> list[Vector]:
        found: list[Vector] = [{} for _ in range(ORDER)]
        for gram, count in counts.items():
            found[len(gram) - 1][gram] = count * (total - math.log(max(1, holding[gram])))
        return found

    scores = []
    for caption, own in zip(captions, references, strict=True):
        own_vectors = vectors(_grams(caption))
        similar = [
            sum(map(_cosine, own_vectors, vectors(_grams(one))))
            / ORDER
            * math.exp(-((_bigrams(caption) - _bigrams(one)) ** 2) / (2 * SIGMA**2))
            for one in own
        ]
        scores.append(10.0 * sum(similar) / len(similar))
    return scores


def caption_report(captions: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, object]:
    """All metrics; means over captions have the interval that holds 95 % of bootstrap samples.

    Raises:
        ValueError: there are no captions, or one has no reference.
    """
    if not captions or not all(references) or len(captions) != len(references):
        raise ValueError(
            f"captions: found {len(captions)} with {[len(own) for own in references][:5]} references each; expected at "
            "least one caption and a reference of each. Fix: give every test record a caption."
        )
    found = [split_words(caption) for caption in captions]
    expected = [[split_words(one) for one in own] for own in references]
    report: dict[str, object] = {"n": len(found)}
    report |= {f"bleu_{order}": score for order, score in enumerate(bleu(found, expected), start=1)}
    exact = [float(any(caption == one for one in own)) for caption, own in zip(found, expected, strict=True)]
    for name, scores in (("rouge_l", rouge_l(found, expected)), ("cider_d", cider(found, expected)), ("exact", exact)):
        report[name] = float(np.mean(scores))
        report[f"{name}_interval"] = bootstrap_interval(scores)
    return report


def _grams(words: Words) -> Counter[tuple[str, ...]]:
    return Counter(
        tuple(words[start : start + order]) for order in range(1, ORDER + 1) for start in range(len(words) - order + 1)
    )


def _bigrams(words: Words) -> int:
    return max(len(words) - 1, 0)


def _cosine(found: Vector, expected: Vector) -> float:
    norms = math.sqrt(sum(value**2 for value in found.values()) * sum(value**2 for value in expected.values()))
    # Clipped, so that a caption gains nothing by repeating an n-gram more often than the reference.
    shared = sum(min(value, expected.get(gram, 0.0)) * expected.get(gram, 0.0) for gram, value in found.items())
    return shared / norms if norms else shared


def _common(one: Words, other: Words) -> int:
    """The length of the longest common subsequence."""
    row = [0] * (len(other) + 1)
    for word in one:
        above = 0
        for at, held in enumerate(other, start=1):
            above, row[at] = row[at], above + 1 if word == held else max(row[at], row[at - 1])
    return row[-1]
