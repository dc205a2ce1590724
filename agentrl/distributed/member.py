"""The life of a process that follows: it calls the leader and does what it is asked, until the line is cut.

Ctrl-C and SIGTERM are the leader's business: it finishes, saves and lets the others go. Should it die instead, the line
ends, and with it this process.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import sys
import threading
import time
import traceback
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import torch

from agentrl.distributed.channel import Channel, call
from agentrl.distributed.leader import join
from agentrl.distributed.parallel import DOOR, Place, Several
from agentrl.distributed.team import Together
from agentrl.errors import AgentRLError
from agentrl.learner import AdamW
from agentrl.model import Parts, Policy, Pretrained
from agentrl.watchdog import last_sign, show_stacks

SIGN_S = 1.0  # between looks for a sign of life to pass on
IDLE_S = 1.0  # one that has nothing to do ends by itself within it
MEETING_S = 3600.0  # the leader is there by then, or torchrun has ended both


class Member:
    """What a follower can be asked before it has a policy and a learner."""

    def __init__(self, team: Together) -> None:
        self._team = team
        self._parallel: Several | None = None
        self._parts: Parts | None = None
        self._policy: Policy | None = None
        team.seat("member", self)

    def load(self, parallel: Several, pretrained: Pretrained, seed: int) -> None:
        """Have what the policy is made of."""
        self._team.lockstep = parallel.lockstep
        self._parallel, self._parts = parallel, parallel.parts(pretrained, seed, self._team)

    def policy(self) -> None:
        """Have this process's policy."""
        assert self._parallel is not None
        assert self._parts is not None
        self._policy, self._parts = self._parallel.made(self._parts, self._team), None

    def learner(self, config: AdamW, about: Mapping[str, Any]) -> None:
        """Have the learner that goes with it; ``about``: what ``config.build`` is told."""
        assert self._policy is not None
        config.build(self._policy, **about, team=self._team)


def serve(place: Place) -> None:
    """Follow one leader, from its call to its end."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    show_stacks()
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // place.size))
    store = place.store(MEETING_S)
    about = json.loads(store.get(DOOR))
    sys.path += [folder for folder in about["path"] if folder not in sys.path]
    device = place.device(about["kind"])
    host, port = about["address"]
    channel = call((host, port), bytes.fromhex(about["token"]), MEETING_S, device)
    channel.send(place.rank)
    done = threading.Event()
    todo = _listening(channel, done)
    join(store, place.rank, place.size, device, about["deadline_s"])
    team = Together(place.rank, place.size, device, False)
    Member(team)
    threading.Thread(target=_tell_life, args=(channel,), daemon=True).start()
    while (asked := todo.get()) is not None:
        name, args = asked
        kind, value = _answer(team, name, args)
        with suppress(OSError):  # the leader has gone
            channel.send((kind, value))
        if kind == "error":
            os._exit(1)  # others may wait for this process in a collective: the cut line ends that
    done.set()


def _answer(team: Together, name: str, args: tuple[Any, ...]) -> tuple[str, Any]:
    try:
        answer = team.here(name, args)
    except AgentRLError as error:
        return "error", f"failed: {error}"
    except Exception as error:  # whatever it is has to reach the person at the other end
        return "error", f"failed in {name} with {type(error).__name__}: {error}\n{traceback.format_exc()}"
    return "ok", answer


def _listening(channel: Channel, done: threading.Event) -> queue.Queue[tuple[str, tuple[Any, ...]] | None]:
    """What is asked, as it comes; None at the end of the line, which is that of this process, too, whatever it
    is doing, unless it says that it is ``done``."""
    todo: queue.Queue[tuple[str, tuple[Any, ...]] | None] = queue.Queue()

    def listen() -> None:
        with suppress(Exception):
            while True:
                todo.put(channel.receive())
        todo.put(None)
        if not done.wait(IDLE_S):
            os._exit(0)

    threading.Thread(target=listen, daemon=True).start()
    return todo


def _tell_life(channel: Channel) -> None:
    """Pass signs of life on."""
    told: object = None
    with suppress(OSError):
        while True:
            sign = last_sign()
            if sign is not told:
                channel.send(("sign", sign))
                told = sign
            time.sleep(SIGN_S)
