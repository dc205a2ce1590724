"""The process that leads: a line to each of the others, what they answer, and what it means when they do not."""

from __future__ import annotations

import atexit
import queue
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import timedelta
from functools import partial
from typing import Any

import torch

from agentrl.cluster.base import Others
from agentrl.distributed.channel import Channel, Door
from agentrl.distributed.team import Together
from agentrl.errors import TeamError
from agentrl.watchdog import Sign, beat, give_up, patience

LOOK_S = 0.2  # between looks at who is silent
GRACE_S = 10.0  # the main thread may take so long to notice by itself that a process is gone
MARGIN_S = 15.0  # beyond the deadline until the watchdog counts it as silence of ours
COLLECTIVES = ("gloo", "nccl", "process group")  # words of errors in which another process has a part


class Follower:
    """A process as the leader sees it. ``end`` says how it ended, once its line is cut."""

    def __init__(self, rank: int, channel: Channel, end: Callable[[], str]) -> None:
        self.rank = rank
        self.answers: queue.Queue[tuple[str, Any]] = queue.Queue()
        self.failed: str | None = None
        self.heard = time.monotonic()
        self.sign: Sign | None = None
        self._channel = channel
        self._end = end
        self._leaving = False
        self._noticed = threading.Event()
        threading.Thread(target=self._listen, name=f"learner {rank}", daemon=True).start()

    def send(self, name: str, args: tuple[Any, ...]) -> None:
        """Ask it to do something. Raises TeamError."""
        self.heard, self.sign = time.monotonic(), None
        try:
            self._channel.send((name, args))
        except OSError:
            raise self.error() from None

    def error(self, wait_s: float = GRACE_S) -> TeamError:
        """What is wrong with it, waiting a little until that is known."""
        deadline = time.monotonic() + wait_s
        while self.failed is None and time.monotonic() < deadline:
            time.sleep(0.05)
        self._noticed.set()
        return TeamError(_sentence(self.rank, self.failed or "cannot be reached"))

    def leave(self) -> None:
        """Hang up: it ends."""
        self._leaving = True
        self._noticed.set()
        self._channel.close()

    def _listen(self) -> None:
        while True:
            try:
                kind, value = self._channel.receive()
            except Exception:  # whatever cuts the line, or the bytes of a process that ended in the middle of them
                if not self._leaving:
                    self._lost(self._end())
                return
            self.heard = time.monotonic()
            if kind == "sign":
                self.sign = value
            elif kind == "error":
                self._lost(value)
                return
            else:
                self.answers.put((kind, value))

    def _lost(self, text: str) -> None:
        """Wake up whoever waits for it; a main thread that hangs in a collective is ended from here."""
        self.failed = text
        self.answers.put(("lost", text))
        if not self._noticed.wait(2 * GRACE_S):
            give_up(f"agentrl: {_sentence(self.rank, text)}")


def _sentence(rank: int, what: str) -> str:
    return f"learner: process {rank} of the learner {what}; the run goes on from its last checkpoint with resume=FOLDER"


class Leader(Together):
    """Rank 0. ``deadline_s``: a process may be silent for so long while something is to be done; ``standing``: the
    others stay after a run, for the next one of this process."""

    def __init__(
        self,
        followers: Sequence[Follower],
        device: torch.device,
        lockstep: bool,
        deadline_s: float,
        leave: Callable[[], None],
        standing: bool,
    ) -> None:
        super().__init__(0, len(followers) + 1, device, lockstep)
        self._followers = followers
        self._deadline_s = deadline_s
        self._leave = leave
        self._standing = standing
        self.broken = False  # an answer is owed that nobody waits for any more
        atexit.register(self.dismiss)

    def each(self, name: str, args: Sequence[tuple[Any, ...]], deadline_s: float | None = None) -> list[Any]:
        self.begin(name, args)
        return self.finish(name, lambda: self.here(name, args[0]), deadline_s)

    def tell(self, name: str, *args: Any) -> Any:
        return self.each(name, [args] * self.size)[0]

    def others(self, name: str, *args: Any) -> None:
        self.begin(name, [args] * self.size)
        self.finish(name, lambda: None)

    def begin(self, name: str, args: Sequence[tuple[Any, ...]]) -> None:
        """Ask the others to begin; the leader's own part, and :meth:`finish`, are to follow."""
        self.broken = True
        for follower in self._followers:
            follower.send(name, args[follower.rank])

    def finish(self, name: str, own: Callable[[], Any], deadline_s: float | None = None) -> list[Any]:
        """The leader's own part, then all answers. ``deadline_s``: of this call, if not the team's. Raises
        TeamError."""
        try:
            mine = own()
        except RuntimeError as error:  # a collective that lost somebody; anything else is ours
            self._explain(error)
            raise
        limit = deadline_s or self._deadline_s
        answers = [mine, *(self._answer(follower, name, limit) for follower in self._followers)]
        self.broken = False
        return answers

    def close(self) -> None:
        if not self._standing:
            self.dismiss()

    def dismiss(self) -> None:
        """Let the others go for good."""
        atexit.unregister(self.dismiss)
        followers, self._followers = self._followers, ()
        for follower in followers:
            follower.leave()
        self._leave()

    def _answer(self, follower: Follower, name: str, limit: float) -> Any:
        seen: Sign | None = None
        with patience("learner", f"waiting for process {follower.rank} to end {name}", limit + MARGIN_S):
            while True:
                try:
                    kind, value = follower.answers.get(timeout=LOOK_S)
                except queue.Empty:
                    if follower.sign is not seen and follower.sign is not None:
                        seen = follower.sign
                        beat(seen[0], f"{seen[1]} (process {follower.rank})", seen[2])
                    self._refuse_silence(follower, limit)
                    continue
                if kind == "lost":
                    raise follower.error()
                return value

    def _refuse_silence(self, follower: Follower, limit: float) -> None:
        silent = time.monotonic() - follower.heard
        if silent >= limit:
            doing = f" since it began: {' '.join(follower.sign[1:]).strip()}" if follower.sign else ""
            raise TeamError(
                f"learner: process {follower.rank} of the learner has been silent for {silent:.0f} s{doing}; if one "
                "forward pass does take that long, lower learner.micro_tokens or raise parallel.deadline_s (now "
                f"{self._deadline_s:g})"
            )

    def _explain(self, error: RuntimeError) -> None:
        """Raise TeamError if a collective failed because of another process."""
        text = str(error).lower()
        if not isinstance(error, torch.distributed.DistError) and not any(word in text for word in COLLECTIVES):
            return
        deadline = time.monotonic() + GRACE_S
        while time.monotonic() < deadline:
            for follower in self._followers:
                if follower.failed is not None:
                    raise follower.error() from None
                self._refuse_silence(follower, self._deadline_s)
            time.sleep(0.05)


def _how(others: Others, rank: int) -> str:
    return others.end(rank, GRACE_S) or "has gone"


def assembled(door: Door, size: int, others: Others, device: torch.device, start_s: float) -> list[Follower]:
    """The followers, by rank, once all have called. Raises TeamError."""
    found: dict[int, Follower] = {}
    deadline = time.monotonic() + start_s
    with patience("setup", "waiting for the other learner processes", start_s + MARGIN_S):
        while len(found) < size - 1:
            if time.monotonic() > deadline:
                missing = sorted(set(range(1, size)) - set(found))
                raise TeamError(
                    f"learner: process{'es' * (len(missing) > 1)} {', '.join(map(str, missing))} did not start within "
                    f"parallel.start_s={start_s:g} s; {others.help()}"
                )
            channel = door.admit(1.0, device)
            for rank in set(range(1, size)) - set(found):
                if ended := others.end(rank, 0.0):
                    raise TeamError(f"learner: process {rank} {ended} before it was up; see what it says above")
            if channel is not None:
                with suppress(EOFError, OSError):
                    rank = int(channel.receive())
                    found[rank] = Follower(rank, channel, partial(_how, others, rank))
    return [found[rank] for rank in sorted(found)]


def join(store: Any, rank: int, size: int, device: torch.device, deadline_s: float) -> None:
    """Bring up the default process group: gloo on CPUs, NCCL for tensors on GPUs. All processes call it."""
    torch.distributed.init_process_group(
        "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo",
        store=store,
        rank=rank,
        world_size=size,
        timeout=timedelta(seconds=deadline_s),
        device_id=device if device.type == "cuda" else None,
    )
