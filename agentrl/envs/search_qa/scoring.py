"""What an answer is worth: exact match as Search-R1 counts it, and softer measures beside it.

Search-R1 scores the whole text of a play, prompt included: it takes the last ``<answer>`` of at least two, for its
prompt holds an example. So a play that never answers is scored on the prompt's own example; ``compat`` keeps that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from agentrl.answers import CLOSING, OPENING, bleu, contained, exact, f1

EXPECTED = 2  # answer tags in prompt + replies below which the original finds no answer
SHORT_OF_EXACT = 0.99  # most that a soft reward pays without an exact match, so that success stays exact match


def extract(text: str, expected: int = EXPECTED) -> str | None:
    """The last answer in a text, without outer spaces; None when it holds fewer than ``expected`` answer tags."""
    count, last, place = 0, "", text.find(OPENING)
    while place >= 0 and (end := text.find(CLOSING, place + len(OPENING))) >= 0:
        count, last = count + 1, text[place + len(OPENING) : end]
        place = text.find(OPENING, end + len(CLOSING))
    return last.strip() if count and count >= expected else None


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
