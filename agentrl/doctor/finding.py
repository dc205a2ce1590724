"""What a check found: one line for a person, one record for a program."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agentrl.doctor.case import Case


@dataclass(frozen=True, slots=True)
class Finding:
    """``name``: ``family: what``; ``checked``: the question; ``figure`` and ``threshold``: for people, with units.

    ``ok`` None: there was nothing to ask (``figure`` says why), or it is a measurement without a threshold. ``remedy``:
    what to do where it is not ok.
    """

    name: str
    checked: str
    figure: str
    threshold: str
    ok: bool | None
    remedy: str

    @property
    def verdict(self) -> str:
        return "-" if self.ok is None else "ok" if self.ok else "NOT OK"


Check = Callable[["Case"], Sequence[Finding]]


def check(name: str, checked: str, threshold: str, remedy: str) -> Callable[[Callable[[Case], object]], Check]:
    """Make a check of a function of a case that answers (ok, figure), or (ok, figure, threshold).

    What it raises is a finding, too: a check that fails must not hide those after it.
    """

    def make(function: Callable[[Case], object]) -> Check:
        @wraps(function)
        def asked(case: Case) -> list[Finding]:
            try:
                answer = function(case)
            except Exception as error:  # a broken method, model or environment may raise anything
                words = " ".join(str(error).split()) or "no message"
                return [Finding(name, checked, f"{type(error).__name__}: {words}", threshold, False, remedy)]
            assert isinstance(answer, tuple)
            ok, figure, *own = answer
            return [Finding(name, checked, figure, own[0] if own else threshold, ok, remedy)]

        return asked

    return make
