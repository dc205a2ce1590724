"""The next batch, played while the learner learns from this one (``max_staleness=1``).

The engine belongs to the thread that plays from the moment the batch in hand is complete, refills included, until the
new weights are pushed, and the push waits for it: so the plays are one batch older than the policy that learns from
them, and never a mixture. Their versions say so, and truncated importance weights (``learner.tis_cap``) make up for it.
Which plays are made depends on seeds and weights alone, never on how long anything takes.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from agentrl.measure import Clock
from agentrl.peaks import blamed
from agentrl.types import Group

PATIENCE_S = 5.0  # how long a second Ctrl-C waits for the engine to come to an end
Play = Callable[[], list[Group]]


class Ahead:
    """A batch that was played before its turn: its groups are ``ready``, or it is None. ``seconds``: how long the batch
    taken last was played."""

    def __init__(self) -> None:
        self.ready: Sequence[Group] | None = None
        self.seconds = 0.0
        self._took = 0.0

    def take(self, play: Play) -> list[Group]:
        """What was played ahead, else what ``play`` gives now."""
        if self.ready is None:
            self._play(play)
        groups, self.ready, self.seconds = list(self.ready or ()), None, self._took
        return groups

    @contextmanager
    def meanwhile(self, play: Play, clock: Clock) -> Iterator[None]:
        """Play in a thread while the caller does something else; waiting for it counts as ``rollout``.

        Raises what ``play`` raises.
        """
        errors: list[BaseException] = []

        def work() -> None:
            try:
                self._play(play)
            except BaseException as error:
                errors.append(error)

        thread = threading.Thread(target=work, name="agentrl: next batch", daemon=True)
        thread.start()
        try:
            yield
        except KeyboardInterrupt:
            thread.join(PATIENCE_S)
            raise
        except BaseException:
            thread.join()
            raise
        with clock.phase("rollout"):
            thread.join()
        for error in errors:
            raise error

    def _play(self, play: Play) -> None:
        begin = time.perf_counter()
        with blamed("rollout"):
            self.ready = play()
        self._took = time.perf_counter() - begin
