"""What was shown and what was not, in sentences made from the numbers."""

from __future__ import annotations

from collections.abc import Sequence

from agentrl.report.arms import Arm, apart
from agentrl.report.records import ALL, Advice, Compared, Pair, Settings
from agentrl.report.tables import chance, plus_minus

SHOWN = 6  # pairs that are told one by one; above it their number


def opening(arms: Sequence[Arm], settings: Settings, left_out: int) -> str:
    """What is compared, by what."""
    runs = sum(len(arm.runs) for arm in arms)
    envs = len({arm.env for arm in arms})
    text = (
        f"{_n(runs, 'finished run')} of {_n(len({arm.label for arm in arms}), 'method')} in {_n(envs, 'environment')}, "
        f"measured by the {settings.metric} of {settings.decoding} plays after training."
    )
    if left_out:
        text += f" {_n(left_out, 'line')} below: what does not count or is missing, and why."
    return text


def told(one: Compared) -> str:
    """An environment in a few sentences."""
    where = "Over all environments" if one.env == ALL else f"In {one.env}"
    if not one.pairs:
        only = one.arms[0]
        return f"{where} there is one method alone, {only.label}: {plus_minus(only.mean)}; nothing to compare it with."
    shown = [pair for pair in one.pairs if pair.word in ("above", "below")]
    others = [pair for pair in one.pairs if pair not in shown]
    told = []
    if len(one.pairs) <= SHOWN:
        told += [_above(pair) for pair in shown] + [_alike(pair) for pair in others]
    else:
        told.append(f"of {len(one.pairs)} pairs {len(shown)} show a difference, {len(others)} show none")
    text = f"{where}, " + "; ".join(told) + "."
    return f"{text} {_ranks(one)}"


def cautions(found: Sequence[Compared], arms: Sequence[Arm]) -> list[str]:
    """What a reader must know before quoting any of it."""
    lines = []
    comparisons = sum(len(one.pairs) for one in found)
    if comparisons > 1:
        lines.append(
            f"{comparisons} comparisons were made. The test over tasks is corrected for their number in each "
            "environment, the 95 % interval is not: if nothing differed, it would leave out 0 in about "
            f"{comparisons / 20:.2g} of them."
        )
    fewest = min(len(arm.seeds) for arm in arms)
    if fewest < 5:
        lines.append(
            f"Some methods have {_n(fewest, 'seed')} only: the bootstrap's intervals are too narrow for so few; "
            "differences are judged by Student's t."
        )
    for env in dict.fromkeys(arm.env for arm in arms):
        of_env = [arm for arm in arms if arm.env == env]
        names = [name.removeprefix("choices.").removesuffix("._target_") for name, _ in apart(of_env)]
        if names:
            lines.append(f"In {env} the methods do not differ in the method alone, but also in {', '.join(names)}.")
    return lines


def wanted(found: Sequence[Compared]) -> str:
    """The sample size in a sentence; empty without advice."""
    middle = [(one.env, one.advice[len(one.advice) // 2]) for one in found if one.advice]
    told = [f"{_seeds(advice)} in {env}" for env, advice in middle if advice.known]
    if not told:
        return ""
    effect = middle[0][1].effect
    return f"To show a difference of {effect:g}, as things spread here, takes for each method {', '.join(told)}."


def _seeds(advice: Advice) -> str:
    return _n(advice.seeds, "seed") if advice.seeds else "more tasks than the panel's"


def _above(pair: Pair) -> str:
    up, down = (pair.ours, pair.theirs) if pair.word == "above" else (pair.theirs, pair.ours)
    half = pair.difference.half or 0.0
    overlap = ", their own intervals overlap" if pair.overlap else ""
    return (
        f"{up} is above {down} by {abs(pair.difference.mean):.3f} ± {half:.3f} (95 %, {pair.seeds} seeds; p over "
        f"tasks {chance(pair.p)}{overlap})"
    )


def _alike(pair: Pair) -> str:
    if pair.word.startswith("not compared"):
        return f"{pair.ours} and {pair.theirs} are {pair.word}"
    size = plus_minus(pair.difference, sign=True)
    return f"{pair.word.partition(':')[0]} between {pair.ours} and {pair.theirs} ({size}, {_n(pair.seeds, 'seed')})"


def _ranks(one: Compared) -> str:
    if all(arm.rank for arm in one.arms):
        order = sorted(one.arms, key=lambda arm: arm.rank or 0)
        return "No two intervals overlap, so they rank: " + ", ".join(f"{a.rank}. {a.label}" for a in order) + "."
    return "Intervals overlap: no ranking."


def _n(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"
