"""Answers in words: the tags around them, and how near one is to the right one (exact match, containment, F1, BLEU).

Length-aware BLEU is the quality that PRS (arXiv:2512.07478) names for short answers, which plain BLEU-4 punishes. The
paper gives no formula; ours, for ``m`` words of answer and ``l`` of gold, normalised as for exact match::

    N = min(4, m, l)
    p_n = clipped n-gram precision, a count of 0 for n >= 2 taken as 0.5
    LBLEU = min(1, e^(1 - l/m)) * exp((1/N) sum_{n <= N} ln p_n)       0 where no word matches

It lies in [0, 1], is 1 for every exact match of any length, and is taken at its best over the golds.
"""

from __future__ import annotations

import math
import re
import string
from collections import Counter
from collections.abc import Sequence

OPENING, CLOSING = "<answer>", "</answer>"  # the tags around an answer in a reply
ARTICLES = re.compile(r"\b(a|an|the)\b")
PUNCTUATION = str.maketrans("", "", string.punctuation)
MAX_N, SMOOTHING = 4, 0.5  # of LBLEU: longest n-gram, what a count of 0 becomes


def normalize(text: str) -> str:
    """Lower case, no ASCII punctuation, no articles, single spaces: in this order, as SQuAD does."""
    return " ".join(ARTICLES.sub(" ", text.lower().translate(PUNCTUATION)).split())


def exact(answer: str, golds: Sequence[str]) -> float:
    """1.0 when the normalised answer equals any normalised gold, else 0.0."""
    return float(normalize(answer) in {normalize(gold) for gold in golds})


def contained(answer: str, golds: Sequence[str]) -> float:
    """SubEM: 1.0 when any normalised gold is a substring of the normalised answer, else 0.0."""
    text = normalize(answer)
    return float(any(normalize(gold) in text for gold in golds))


def f1(answer: str, golds: Sequence[str]) -> float:
    """The best F1 of normalised words over the golds, in [0, 1]."""
    return max((_f1(normalize(answer).split(), normalize(gold).split()) for gold in golds), default=0.0)


def bleu(answer: str, golds: Sequence[str]) -> float:
    """The best length-aware BLEU over the golds, in [0, 1]."""
    return max((_bleu(normalize(answer).split(), normalize(gold).split()) for gold in golds), default=0.0)


def _f1(answer: Sequence[str], gold: Sequence[str]) -> float:
    if not answer or not gold:
        return float(answer == gold)
    common = sum((Counter(answer) & Counter(gold)).values())
    return 2 * common / (len(answer) + len(gold))


def _bleu(answer: Sequence[str], gold: Sequence[str]) -> float:
    if not answer or not gold:
        return float(answer == gold)
    logs = []
    longest = min(MAX_N, len(answer), len(gold))
    for n in range(1, longest + 1):
        grams, wanted = (Counter(tuple(text[i : i + n]) for i in range(len(text) - n + 1)) for text in (answer, gold))
        matched, total = sum((grams & wanted).values()), sum(grams.values())
        if n == 1 and not matched:
            return 0.0
        logs.append(math.log((matched or SMOOTHING) / total))
    return min(1.0, math.exp(1 - len(gold) / len(answer))) * math.exp(sum(logs) / longest)
