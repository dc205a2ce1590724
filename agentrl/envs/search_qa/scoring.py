"""What an answer is worth: exact match as Search-R1 counts it, and softer measures beside it.

Search-R1 scores the whole text of a play, prompt included: it takes the last ``<answer>`` of at least two, for its
prompt holds an example. So a play that never answers is scored on the prompt's own example; ``compat`` keeps that.
"""

from __future__ import annotations

import math
import re
import string
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

OPENING, CLOSING = "<answer>", "</answer>"
ARTICLES = re.compile(r"\b(a|an|the)\b")
PUNCTUATION = str.maketrans("", "", string.punctuation)
EXPECTED = 2  # answer tags in prompt + replies below which the original finds no answer
SHORT_OF_EXACT = 0.99  # most that a soft reward pays without an exact match, so that success stays exact match
MAX_N, SMOOTHING = 4, 0.5  # of the length-aware BLEU: longest n-gram, what a count of 0 becomes


def normalize(text: str) -> str:
    """Lower case, no ASCII punctuation, no articles, single spaces: in this order, as SQuAD does."""
    return " ".join(ARTICLES.sub(" ", text.lower().translate(PUNCTUATION)).split())


def extract(text: str, expected: int = EXPECTED) -> str | None:
    """The last answer in a text, without outer spaces; None when it holds fewer than ``expected`` answer tags."""
    count, last, place = 0, "", text.find(OPENING)
    while place >= 0 and (end := text.find(CLOSING, place + len(OPENING))) >= 0:
        count, last = count + 1, text[place + len(OPENING) : end]
        place = text.find(OPENING, end + len(CLOSING))
    return last.strip() if count and count >= expected else None


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
    """The best length-aware BLEU over the golds, in [0, 1].

    Words normalised as for exact match; n-grams up to min(4, both lengths); counts of 0 for n >= 2 become 0.5; times
    min(1, e^(1 - |gold| / |answer|)). The formula is ours: PRS (arXiv 2512.07478) names the measure without one.
    """
    return max((_bleu(normalize(answer).split(), normalize(gold).split()) for gold in golds), default=0.0)


MEASURES = {"em": exact, "f1": f1, "bleu": bleu}


@dataclass(frozen=True, slots=True)
class Scorer:
    """``reward``: a key of ``MEASURES``. ``format_score``: what an answer that is not an exact match pays at least."""

    reward: str
    format_score: float

    def __call__(self, answer: str | None, golds: Sequence[str]) -> tuple[float, dict[str, float]]:
        """(reward, its parts) of a final answer; nothing is paid where there is none."""
        if answer is None:
            return 0.0, {"answered": 0.0, "em": 0.0, "f1": 0.0, "subem": 0.0}
        em = exact(answer, golds)
        parts = {"answered": 1.0, "em": em, "f1": f1(answer, golds), "subem": contained(answer, golds)}
        if em or self.reward == "em":
            return em or self.format_score, parts
        soft = min(MEASURES[self.reward](answer, golds), SHORT_OF_EXACT)
        return max(soft, self.format_score), parts


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
