"""In how many processes the learner learns, and what each of them holds: the choices of the group ``parallel``."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
from torch.distributed.rendezvous import rendezvous

from agentrl.cluster.processes import PRELOAD
from agentrl.device import resolve_device
from agentrl.distributed.channel import Door
from agentrl.distributed.leader import LEAVING_S, Leader, assembled, join
from agentrl.distributed.policies import Replica, Sharded
from agentrl.distributed.team import Alone, Team, Together
from agentrl.errors import ConfigError, TeamError
from agentrl.model import Parts, Policy, Pretrained
from agentrl.ranges import require_least, require_positive

DOOR = "agentrl/door"  # key under which the leader tells where to call
HERE = "127.0.0.1"
TCPStore: Any = torch.distributed.TCPStore  # type: ignore[attr-defined]  # torch does not list it among its exports


@dataclass(frozen=True)
class Place:
    """Who a process is, and where its team meets. ``port`` 0: as torchrun says in the environment."""

    rank: int
    size: int
    local_rank: int
    host: str = ""
    port: int = 0

    def store(self, timeout_s: float) -> Any:
        """The key-value store that all processes share."""
        if self.port:
            return TCPStore(self.host, self.port, timeout=timedelta(seconds=timeout_s))
        store, _, _ = next(rendezvous("env://", timeout=timedelta(seconds=timeout_s)))
        return store

    def device(self, kind: str) -> torch.device:
        """Its own GPU, or the CPU."""
        if kind != "cuda":
            return torch.device(kind)
        torch.cuda.set_device(self.local_rank)
        return torch.device("cuda", self.local_rank)


_standing: list[Leader] = []  # the team of processes that torchrun started
Serve = Callable[[Place], None]  # the life of a process that follows (agentrl.distributed.member)


def launched() -> Place | None:
    """Who this process is, if torchrun started it."""
    env = os.environ
    if "TORCHELASTIC_RUN_ID" not in env:
        return None
    return Place(int(env["RANK"]), int(env["WORLD_SIZE"]), int(env["LOCAL_RANK"]))


@dataclass(frozen=True)
class One:
    """The schema of conf/parallel/none.yaml."""

    def start(self, serve: Serve, device: str, engines: Mapping[str, Any]) -> Team:
        """A team of one. Raises ConfigError."""
        place = launched()
        if place is not None and place.size > 1:
            raise ConfigError(
                f"parallel=none: torchrun started {place.size} processes, expected 1; take parallel=data or "
                "parallel=fsdp, or run agentrl without torchrun"
            )
        return Alone()

    def policy(self, pretrained: Pretrained, device: str, seed: int, team: Team) -> Policy:
        """The policy of this process. Raises ConfigError."""
        return pretrained.build(device, seed)

    def describe(self) -> str:
        """For people, as what follows where the engines are."""
        return ""


@dataclass(frozen=True)
class Several:
    """What the choices of several processes have in common: conf/parallel/data.yaml is the schema."""

    processes: int
    start_s: float
    deadline_s: float

    lockstep = False

    def __post_init__(self) -> None:
        require_least(self, "parallel", processes=0)
        require_positive(self, "parallel", "start_s", "deadline_s")

    def start(self, serve: Serve, device: str, engines: Mapping[str, Any]) -> Team:
        """The team of this process, which leads it: the others are started here, unless torchrun has. ``engines``:
        the config of their cluster. Raises ConfigError, TeamError."""
        kind = resolve_device(device).type
        place, size = launched(), self._size(kind)
        if kind == "cuda":
            _require_gpus(size if place is None else 1, engines)
        if place is None:
            return self._hired(serve, size, kind)
        return self._launched(place, kind)

    def _launched(self, place: Place, kind: str) -> Team:
        """The processes that torchrun started: one team for all runs of this one."""
        if not _standing:
            met = self._met(place.store(self.start_s), Door(os.environ["MASTER_ADDR"]), place, kind, _nobody, _nothing)
            _standing.append(met)
        if _standing[0].broken:
            raise TeamError(
                "learner: the processes that torchrun started are in the middle of a failed run; start anew"
            )
        _standing[0].lockstep = self.lockstep
        return _standing[0]

    def _size(self, kind: str) -> int:
        place = launched()
        if place is not None:
            if self.processes not in (0, place.size):
                raise ConfigError(
                    f"parallel.processes: got {self.processes}, but torchrun started {place.size}; leave it out"
                )
            return place.size
        if not self.processes and kind != "cuda":
            raise ConfigError("parallel.processes: got 0, which is one for each GPU, on a CPU; say how many, as 2")
        return self.processes or torch.cuda.device_count()

    def _hired(self, serve: Serve, size: int, kind: str) -> Team:
        """Processes of this machine."""
        store = TCPStore(HERE, 0, None, True, timedelta(seconds=self.start_s), wait_for_workers=False)
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([*PRELOAD, "agentrl.distributed.member"])
        hired = [
            context.Process(target=serve, args=(Place(rank, size, rank, HERE, store.port),), name=f"learner {rank}")
            for rank in range(1, size)
        ]
        for process in hired:
            process.start()

        def end(rank: int, wait_s: float) -> str:
            process = hired[rank - 1]
            process.join(wait_s)
            return "" if process.exitcode is None else _ended(process.exitcode)

        def leave() -> None:
            for process in hired:
                process.join(LEAVING_S)
                process.kill()
                process.join(LEAVING_S)

        try:
            return self._met(store, Door(HERE), Place(0, size, 0), kind, end, leave)
        except BaseException:
            for process in hired:
                process.kill()
            raise

    def _met(
        self,
        store: Any,
        door: Door,
        place: Place,
        kind: str,
        end: Callable[[int, float], str],
        leave: Callable[[], None],
    ) -> Leader:
        """The team once all have called."""
        device = place.device(kind)
        about = {"address": door.address, "token": door.token.hex(), "deadline_s": self.deadline_s, "kind": kind}
        about["path"] = sys.path  # where modules of --config-dir are
        store.set(DOOR, json.dumps(about))
        followers = assembled(door, place.size, end, device, self.start_s)
        door.close()

        def gone() -> None:
            if torch.distributed.is_initialized() and not (team.broken and kind == "cuda"):  # NCCL would wait for all
                torch.distributed.destroy_process_group()
            leave()

        team = Leader(followers, device, self.lockstep, self.deadline_s, gone, launched() is not None)
        try:
            join(store, 0, place.size, device, self.deadline_s)
        except BaseException:
            team.dismiss()
            raise
        return team

    def policy(self, pretrained: Pretrained, device: str, seed: int, team: Team) -> Policy:
        """The policy of this process, and of all others. Raises ConfigError, TeamError."""
        assert isinstance(team, Leader)
        if not isinstance(pretrained, Pretrained):  # a model that has no weights here: refused where it is to learn
            return pretrained.build(device, seed)
        team.begin("member.load", [(self, pretrained, seed)] * team.size)
        (parts, *_) = team.finish("member.load", lambda: self.parts(pretrained, seed, team), self.start_s)
        team.begin("member.policy", [()] * team.size)
        (policy, *_) = team.finish("member.policy", lambda: self.made(parts, team))
        return policy  # type: ignore[no-any-return]

    def parts(self, pretrained: Pretrained, seed: int, team: Together) -> Parts:
        """What this process makes its policy of: the leader reads the weights, all others get them from it."""
        return pretrained.parts(str(team.device), seed, empty=team.rank > 0)

    def made(self, parts: Parts, team: Together) -> Policy:
        """This process's policy; all processes call it."""
        return Replica(*parts, team)

    def _count(self) -> str:
        place = launched()
        return str(self.processes or (place.size if place else torch.cuda.device_count()))

    def describe(self) -> str:
        return f", learner in {self._count()} processes with all weights each"


@dataclass(frozen=True)
class Data(Several):
    """The schema of conf/parallel/data.yaml."""


@dataclass(frozen=True)
class FSDP(Several):
    """The schema of conf/parallel/fsdp.yaml."""

    offload: bool

    lockstep = True

    def parts(self, pretrained: Pretrained, seed: int, team: Together) -> Parts:
        return pretrained.parts("cpu", seed, team.rank > 0, pretrained.place(str(team.device)))

    def made(self, parts: Parts, team: Together) -> Policy:
        return Sharded(*parts, team, offload=self.offload)

    def describe(self) -> str:
        return f", learner in {self._count()} processes with a share of the weights each"


def _require_gpus(size: int, engines: Mapping[str, Any]) -> None:
    """Refuse more processes than GPUs, and engines that would come to them unasked. Raises ConfigError."""
    count = torch.cuda.device_count()
    if size > count:
        raise ConfigError(
            f"parallel.processes: got {size}, but PyTorch sees {count} GPU(s) here and each process needs its own; "
            "ask for fewer, or start processes on several machines with torchrun (docs/cluster.md)"
        )
    if "devices" in engines and not engines["devices"]:
        raise ConfigError(
            "cluster.devices: got none, so engines would be put on the GPUs of the learner's processes; name theirs, "
            f"as cluster.devices=[cuda:{size},...], or take cluster=here for one that shares the first GPU"
        )


def _nobody(_rank: int, _wait_s: float) -> str:
    """How a process ended that torchrun looks after."""
    return ""


def _nothing() -> None:
    """What is left to do after such processes."""


def _ended(code: int) -> str:
    if code < 0:
        return f"was ended by signal {-code} ({signal.Signals(-code).name})"
    return f"ended with exit code {code}"
