"""``agentrl env replay golden=FILE``: recorded scores of Search-R1's program, computed again and compared exactly.

One record of a file: ``solution`` (prompt and replies), ``golden_answers``, and what the original made of them:
``extracted``, ``em``, ``em_format_0.1`` (a wrong answer pays 0.1), ``subem``, ``normalized``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from agentrl.answers import contained, normalize
from agentrl.envs.search_qa.scoring import Scorer, extract
from agentrl.errors import DataError
from agentrl.retrieval import read_lines

FORMAT_SCORE = 0.1  # of the recorded em_format_0.1
FIELDS = ("extracted", "em", "em_format_0.1", "subem", "normalized")


def replay(golden: Path) -> dict[str, Any]:
    """``{"kind", "cases", "agree", "first_difference"}``; the last is None or ``{"case", "field", "expected", "got"}``.

    Raises DataError on a damaged file or one of another kind.
    """
    cases = agree = 0
    first = None
    for line, record in read_lines(golden):
        cases += 1
        missing = [key for key in ("solution", "golden_answers", *FIELDS) if key not in record]
        if missing:
            raise DataError(f"{golden}, line {line}: no {', '.join(missing)}; expected recorded scores of search QA")
        got = _score(record)
        differing = [field for field in FIELDS if got[field] != record[field]]
        agree += not differing
        if differing and first is None:
            field = differing[0]
            first = {"case": record.get("id", line), "field": field, "expected": record[field], "got": got[field]}
    if not cases:
        raise DataError(f"{golden}: holds no record; expected recorded scores of search QA")
    return {"kind": "scores", "cases": cases, "agree": agree, "first_difference": first}


def _score(record: Mapping[str, Any]) -> dict[str, Any]:
    golds = record["golden_answers"]
    golds = [golds] if isinstance(golds, str) else golds
    answer = extract(record["solution"])
    return {
        "extracted": answer,
        "em": Scorer("em", 0.0)(answer, golds)[0],
        "em_format_0.1": Scorer("em", FORMAT_SCORE)(answer, golds)[0],
        "subem": 0.0 if answer is None else contained(answer, golds),
        "normalized": None if answer is None else normalize(answer),
    }
