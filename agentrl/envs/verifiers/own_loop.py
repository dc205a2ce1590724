"""Coroutines of somebody else's environment, run from plain code with a deadline.

One event loop in a thread of its own serves all episodes of an environment: what belongs to a loop (locks, clients)
stays with it. A call that holds the loop past its deadline is left behind with that loop; new episodes get a new one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from concurrent.futures import TimeoutError as Late
from threading import Lock, Thread
from typing import Any

from agentrl.errors import EnvError

ALIVE_S = 1.0  # within which a loop that nobody holds answers


class OwnLoop:
    """A loop in a daemon thread, started at once."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = Thread(target=self._loop.run_forever, name="verifiers", daemon=True)
        self._thread.start()
        self.held = False  # by a call that does not come back

    def run(self, work: Coroutine[Any, Any, Any], seconds: float, what: str) -> Any:
        """The coroutine's result. Raises what it raises, and EnvError where it takes longer than ``seconds``."""
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result(seconds)
        except Late:
            if future.done():  # the environment's own timeout
                raise
            future.cancel()
            self.held = not self._answers()
            raise EnvError(f"{what} took longer than env.timeout_s={seconds:g} seconds; raise it, or mend it") from None

    def _answers(self) -> bool:
        try:
            asyncio.run_coroutine_threadsafe(asyncio.sleep(0), self._loop).result(ALIVE_S)
        except Late:
            return False
        return True

    def stop(self) -> None:
        """End the thread, unless a call holds it."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(ALIVE_S)
        if not self._thread.is_alive() and not self._loop.is_closed():
            self._loop.close()


class Loops:
    """The loop that new episodes get: one as long as it answers."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._loop: OwnLoop | None = None

    def get(self) -> OwnLoop:
        with self._lock:
            if self._loop is None or self._loop.held:
                self._loop = OwnLoop()
            return self._loop

    def stop(self) -> None:
        with self._lock:
            if self._loop is not None:
                self._loop.stop()
            self._loop = None
