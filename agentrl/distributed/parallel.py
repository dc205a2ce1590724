"""In how many processes the learner learns, and what each of them holds: the choices of the group ``parallel``."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
from torch.distributed.rendezvous import rendezvous

from agentrl.cluster.base import Cluster, Hands, Others
from agentrl.cluster.processes import Processes
from agentrl.cluster.ray import Ray
from agentrl.device import resolve_device
from agentrl.distributed.channel import Door
from agentrl.distributed.leader import Leader, assembled, join
from agentrl.distributed.policies import Replica, Sharded
from agentrl.distributed.team import Alone, Team, Together
from agentrl.errors import ConfigError, TeamError
from agentrl.model import Parts, Policy, Pretrained
from agentrl.ranges import require_least, require_positive

DOOR = "agentrl/door"  # key under which the leader tells where to call
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

    def start(self, serve: Serve, device: str, cluster: Cluster) -> Team:
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

    def start(self, serve: Serve, device: str, cluster: Cluster) -> Team:
        """The team of this process, which leads it: the others are started where ``cluster`` has its own, unless
        torchrun has started them. Raises ConfigError, TeamError."""
        kind = resolve_device(device).type
        place, size = launched(), self._size(kind, cluster)
        if kind == "cuda":
            _require_apart(size, cluster)
        if place is None:
            return self._hired(serve, size, kind, cluster.hands(size - 1, kind))
        return self._launched(place, kind)

    def _launched(self, place: Place, kind: str) -> Team:
        """The processes that torchrun started: one team for all runs of this one."""
        if not _standing:
            theirs = Launched(os.environ["MASTER_ADDR"])
            _standing.append(self._met(place.store(self.start_s), place, kind, theirs))
        if _standing[0].broken:
            raise TeamError(
                "learner: the processes that torchrun started are in the middle of a failed run; start anew"
            )
        _standing[0].lockstep = self.lockstep
        return _standing[0]

    def _size(self, kind: str, cluster: Cluster) -> int:
        place = launched()
        if place is not None:
            if self.processes not in (0, place.size):
                raise ConfigError(
                    f"parallel.processes: got {self.processes}, but torchrun started {place.size}; leave it out"
                )
            return place.size
        many = isinstance(cluster, Ray) and bool(cluster.address)
        if not self.processes and (many or kind != "cuda"):
            where = "of many machines" if many else "on a CPU"
            raise ConfigError(f"parallel.processes: got 0, which is one for each GPU, {where}; say how many, as 2")
        return self.processes or torch.cuda.device_count()

    def _hired(self, serve: Serve, size: int, kind: str, hands: Hands) -> Team:
        """A team with processes that are started now."""
        try:
            wait = timedelta(seconds=self.start_s)
            store = TCPStore(hands.host, 0, None, True, wait, wait_for_workers=False)
            given = [Place(rank, size, hands.gpu(rank), hands.host, store.port) for rank in range(1, size)]
            hands.hire(serve, given)
            return self._met(store, Place(0, size, 0), kind, hands)
        except BaseException:
            hands.kill()
            raise

    def _met(self, store: Any, place: Place, kind: str, others: Others) -> Leader:
        """The team once all have called."""
        device, door = place.device(kind), Door(others.host)
        about = {"address": door.address, "token": door.token.hex(), "deadline_s": self.deadline_s, "kind": kind}
        about["path"] = sys.path  # where modules of --config-dir are
        store.set(DOOR, json.dumps(about))
        followers = assembled(door, place.size, others, device, self.start_s)
        door.close()

        def gone() -> None:
            if torch.distributed.is_initialized() and not (team.broken and kind == "cuda"):  # NCCL would wait for all
                torch.distributed.destroy_process_group()
            others.leave()

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


def _require_apart(size: int, cluster: Cluster) -> None:
    """Refuse engines that would come to the GPUs of learners unasked. Raises ConfigError."""
    if isinstance(cluster, Processes) and not cluster.devices:
        raise ConfigError(
            "cluster.devices: got none, so engines would be put on the GPUs of the learner's processes; name theirs, "
            f"as cluster.devices=[cuda:{size},...], or take cluster=here for one that shares the first GPU"
        )


class Launched:
    """Processes that torchrun started and looks after."""

    def __init__(self, host: str) -> None:
        self.host = host

    def end(self, number: int, wait_s: float) -> str:
        return ""

    def help(self) -> str:
        return "see what they say above"

    def leave(self) -> None:
        return None
