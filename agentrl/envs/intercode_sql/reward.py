"""The reward of InterCode-SQL: how alike two result sets are, order included.

Restated from princeton-nlp/intercode (Yang et al. 2023, arXiv 2306.14898), whose numbers it gives exactly. Rows are
compared as text (``str(tuple)``). With A the player's rows and E the gold ones, as multisets::

    IoU  = sum over rows of min(count in A, count in E) / sum of max(...)         (both empty: reward 1)
    tau  = Kendall's tau-b between A' and E', the rows of A and of E that belong to the common multiset, in order
    reward = round(tau * IoU, 2) where tau is defined, else IoU unrounded

Quirks of the original, kept and switchable by ``Compat``:

* ``kendall_on_strings``: tau ranks the rows by the lexicographic order of their *texts*, pair by pair, not by where a
  row stands in the other list. So ``bac`` against ``bca`` is -1, and rewards below 0 exist. Off: rows are ranked by
  their place in E' (equal rows in order of appearance), the rank correlation that the paper describes.
* ``numpy_round``: rounding as numpy does it, ``rint(100 x) / 100``. Off: no rounding.
* ``corrupt_gold_as_empty``: a gold query that fails counts as an empty result, which an empty answer matches with
  reward 1. Off: it earns 0, whatever the answer.
"""

from __future__ import annotations

import math
from bisect import bisect_right, insort
from collections import Counter, defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

Rows = Sequence[tuple[Any, ...]]


@dataclass(frozen=True, slots=True)
class Compat:
    """Which quirks of the original reward apply; all of them in the faithful setting."""

    kendall_on_strings: bool = True
    numpy_round: bool = True
    corrupt_gold_as_empty: bool = True


FAITHFUL = Compat()
CLEAN = Compat(kendall_on_strings=False, numpy_round=False, corrupt_gold_as_empty=False)


@dataclass(frozen=True, slots=True)
class Score:
    """The reward in [-1, 1] and what it is made of; ``tau`` is None where it is undefined."""

    reward: float
    iou: float
    tau: float | None


def score(answer: Rows | None, gold: Rows | None, corrupt_gold: bool = False, compat: Compat = FAITHFUL) -> Score:
    """Compare an answer with the gold rows.

    ``answer`` None: the last observation is no result set (an error, a statement without one, nothing run): 0.
    ``gold`` None: the gold statement gives no result set, which counts as no rows.
    """
    if answer is None or (corrupt_gold and not compat.corrupt_gold_as_empty):
        return Score(0.0, 0.0, None)
    return score_texts([str(row) for row in answer], [str(row) for row in gold or ()], compat)


def score_texts(answer: Sequence[str], gold: Sequence[str], compat: Compat = FAITHFUL) -> Score:
    """``score`` on the texts of the rows."""
    if answer == gold:
        return _equal(answer, compat)
    ours, theirs = Counter(answer), Counter(gold)
    union, common = (ours | theirs).total(), ours & theirs
    shared = common.total()
    iou = shared / union
    if not shared:
        return Score(iou, iou, None)
    kept, expected = _kept(answer, common), _kept(gold, common)
    tau = tau_b(kept, expected) if compat.kendall_on_strings else tau_b(_places(kept, expected), range(shared))
    if tau is None:
        return Score(iou, iou, None)
    return Score(_round(tau * iou, compat), iou, tau)


def _equal(rows: Sequence[str], compat: Compat) -> Score:
    """Equal lists: 1, with tau defined only where two different rows exist."""
    defined = any(row != rows[0] for row in rows) if compat.kendall_on_strings else len(rows) > 1
    return Score(1.0, 1.0, 1.0 if defined else None)


def _round(value: float, compat: Compat) -> float:
    """numpy's rounding to two places: ties to even after the multiplication."""
    return round(value * 100) / 100 if compat.numpy_round else value


def _kept(rows: Sequence[str], common: Counter[str]) -> list[str]:
    """The rows that belong to the common multiset, in order, the first ones of each kind."""
    left = Counter(common)
    kept = []
    for row in rows:
        if left[row] > 0:
            left[row] -= 1
            kept.append(row)
    return kept


def _places(rows: Sequence[str], order: Sequence[str]) -> list[int]:
    """Where each row stands in ``order``; equal rows take their places in turn."""
    places: defaultdict[str, deque[int]] = defaultdict(deque)
    for place, row in enumerate(order):
        places[row].append(place)
    return [places[row].popleft() for row in rows]


def tau_b(xs: Sequence[Any], ys: Sequence[Any]) -> float | None:
    """Kendall's tau-b of paired values (equal lengths), clipped to [-1, 1]; None where undefined."""
    n0 = len(xs) * (len(xs) - 1) // 2
    pairs = sorted(zip(xs, ys, strict=True))
    ties_x, ties_y, ties_both = (_ties(Counter(values)) for values in (xs, ys, pairs))
    if n0 in (ties_x, ties_y):
        return None
    seen: list[Any] = []
    discordant = 0
    for _, y in pairs:  # equal x come in rising y, so no tie in x counts as discordant
        discordant += len(seen) - bisect_right(seen, y)
        insort(seen, y)
    balance = n0 - ties_x - ties_y + ties_both - 2 * discordant  # concordant minus discordant
    tau = balance / math.sqrt(n0 - ties_x) / math.sqrt(n0 - ties_y)
    return max(-1.0, min(1.0, tau))


def _ties(counts: Counter[Any]) -> int:
    return sum(count * (count - 1) // 2 for count in counts.values())
