"""Long answers: look things up, then answer in several sentences; a judge says what the answer is worth, in [0, 1].

The setting of PRS and VSPO (arXiv:2512.07478) with its three kinds of questions: simple ones, several sub-questions,
and questions about a picture given by its URL. Its data are not public: the bundled questions and references are
generated (``world``), a user's own come as JSON lines (``records``). One real task and turn in the text view::

    ... Question: Find out the place of birth and the spouse of Nasela Jofal.
    > <search>Nasela Jofal</search>

    <information>Doc 1(Title: "Nasela Jofal") Nasela Jofal, in older papers N. Jofal, is a figure of ...</information>

    > <answer>Nasela Jofal was born in Faetrulmere and was married to Drondan Broumaend.</answer>

The reward is the judge's score on the answer, which ends the episode. Replies outside the grammar change nothing and
cost a turn. There is no step limit inside: the rollout sets one. Pictures are never fetched: a record brings captions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from agentrl.envs.base import Expert, FieldsTravel, Step
from agentrl.envs.long_qa.records import SPLITS, Record, load
from agentrl.envs.long_qa.views import Act, CompactView, State, TextView, View, noted
from agentrl.envs.long_qa.world import World
from agentrl.errors import ConfigError, DataError
from agentrl.judges import Judge, Rubric, Rules, Verdict
from agentrl.retrieval import Remote, Retriever, Store
from agentrl.types import Message, Messages, Split, Task

BUNDLED = "bundled"
VIEWS = ("text", "compact")
QUERY_CHARS = 1000  # of a search; the rest is not looked at


@dataclass(frozen=True, slots=True)
class EpisodeState:
    """A copy of an episode from which ``LongQA.restore`` makes an equal one."""

    task: Task
    state: State


class LongQAEpisode:
    """One question. ``record``: the question and its reference; ``state``: what was done and found."""

    __slots__ = ("env", "record", "state", "task")

    def __init__(self, env: LongQA, task: Task, record: Record, state: State) -> None:
        self.env = env
        self.task = task
        self.record = record
        self.state = state

    @property
    def goal(self) -> Messages:
        """Rules and question, or the compact goal line."""
        return self.env.shown.goal(self.record)

    @property
    def observation(self) -> Messages:
        """What the last search or look brought; compact: everything found so far."""
        return self.env.shown.observe(self.state)

    def step(self, action: Message) -> Step:
        """Play one reply. After an answer ``info`` holds ``answer``, ``golds``, and the judge's parts and reason.

        Raises JudgeError."""
        act = self.env.shown.read(self.record, action.content)
        info: dict[str, Any] = {}
        reward = 0.0
        if not self.state.done:
            if act is not None and act.verb == "answer":
                verdict = self.env.judged(self.record, act.argument)
                reward = verdict.score
                golds = [self.env.shown.asked(self.record)[1]]
                info = {"answer": act.argument, "golds": golds, "reason": verdict.reason}
                info["reward_parts"] = dict(verdict.parts)
            self.state = self._after(act)
        return Step(self.observation, reward, self.state.done, parsed=act is not None, info=info)

    def actions(self) -> Sequence[str]:
        """A search for each thing known by name, the looks, and some answers: never the reference by design."""
        from agentrl.envs.long_qa.expert import choices

        return [self.env.shown.write(self.record, act) for act in choices(self)]

    def snapshot(self) -> EpisodeState:
        return EpisodeState(self.task, self.state)

    def close(self) -> None:
        """Nothing to free."""

    def _after(self, act: Act | None) -> State:
        view, old = self.env.shown, self.state
        if act is None:
            return State(old.acts, old.notes, view.refused())
        if act.verb == "answer":
            return State(old.acts, old.notes, "", done=True)
        if act.verb == "view":
            text = view.looked(self.record, act.argument)
        else:
            text = view.found(self.env.search(act.argument))
        return State((*old.acts, act), noted(old.notes, text) if view.compact else (), text)


@dataclass(frozen=True)
class LongQA(FieldsTravel):
    """The environment; its fields are the keys of ``conf/env/long_qa.yaml``. Building it loads nothing.

    data        ``bundled`` (generated questions), or a file of JSON lines (see ``records``)
    corpus      ``bundled`` (the generated articles), a file of JSON lines {id, contents}, the URL of a retrieval
                server, or ``none`` (nothing can be found)
    index       folder in which the index of a corpus file is kept
    judge       what scores an answer (``judge=rules``, ``judge=openai``); None: the offline rules
    success     score from which an answer counts as a success
    view        ``text``, ``compact``
    max_turns   replies per episode, for the rollout (no limit inside)
    top_k       passages that a search shows
    shown_chars most characters of what a search or a look shows (text view)
    seed, size  of the bundled encyclopedia (size in entities); part of the data, not of a run
    val, test   panel sizes (tasks), at most
    """

    data: str = BUNDLED
    corpus: str = BUNDLED
    index: str = "~/.cache/agentrl/indexes"
    judge: Any = None
    success: float = 1.0
    view: str = "text"
    max_turns: int = 8
    top_k: int = 3
    shown_chars: int = 3000
    seed: int = 0
    size: int = 2000
    val: int = 200
    test: int = 500

    def __post_init__(self) -> None:
        if self.view not in VIEWS:
            raise ConfigError(f"env.view is {self.view!r}; expected one of {', '.join(VIEWS)}")
        if self.judge is None:
            object.__setattr__(self, "judge", Rules())
        if not callable(getattr(self.judge, "verdict", None)):
            raise ConfigError(f"env.judge is {self.judge!r:.60}; choose one with judge=rules or judge=openai")
        if not 0.0 < self.success <= 1.0:
            raise ConfigError(f"env.success is {self.success}; expected a number above 0 and up to 1")
        least = {"max_turns": 1, "top_k": 1, "shown_chars": 1, "size": 1, "val": 1, "test": 1}
        for name, low in least.items():
            if getattr(self, name) < low:
                raise ConfigError(f"env.{name} is {getattr(self, name)}; expected at least {low}")
        if self.view == "compact" and (self.data, self.corpus) != (BUNDLED, BUNDLED):
            raise ConfigError("env.view is 'compact', which only the bundled questions have; use env.view=text")
        if self.data != BUNDLED and self.corpus == BUNDLED:
            raise ConfigError(
                f"env.data is {self.data!r} but env.corpus is 'bundled', which knows nothing of it; give "
                "env.corpus=FILE, the URL of a retrieval server, or env.corpus=none"
            )

    @property
    def success_return(self) -> float:
        """The score that counts as success: with ``judge=openai`` and one vote, Match is 1."""
        return self.success

    @cached_property
    def world(self) -> World:
        """The bundled encyclopedia."""
        return World(self.seed, self.size)

    @cached_property
    def shown(self) -> View:
        """The view, as an object."""
        return CompactView(self.world) if self.view == "compact" else TextView(self.max_turns, self.shown_chars)

    @cached_property
    def retriever(self) -> Retriever | None:
        """What answers searches; None for ``corpus=none``. Raises DataError when the corpus cannot be read."""
        if self.corpus == BUNDLED:
            return Store.build(self.world.documents(self.shown.compact))
        if self.corpus == "none":
            return None
        if self.corpus.startswith(("http://", "https://")):
            return Remote(self.corpus)
        return Store.of_file(Path(self.corpus).expanduser(), Path(self.index).expanduser())

    @cached_property
    def _panels(self) -> dict[Split, list[Task]]:
        if self.data == BUNDLED:
            panels = {split: self.world.tasks(split) for split in SPLITS}
        else:
            panels = load(Path(self.data).expanduser())
        return {"train": panels["train"], "val": panels["val"][: self.val], "test": panels["test"][: self.test]}

    @property
    def fingerprint(self) -> Mapping[str, Any]:
        """What results depend on; builds the index. The questions themselves are named by the panels' hashes."""
        judge: Judge = self.judge
        return {
            "env": "long_qa",
            "data": f"bundled-{self.size}-{self.seed}" if self.data == BUNDLED else Path(self.data).name,
            "corpus": dict(self.retriever.fingerprint) if self.retriever is not None else "none",
            "judge": dict(judge.fingerprint),
            "success": self.success,
            "view": self.view,
            "top_k": 1 if self.shown.compact else self.top_k,
            "shown_chars": self.shown_chars,
        }

    def tasks(self, split: Split) -> Sequence[Task]:
        """The tasks of a split, always in the same order. Raises DataError when the data give it none."""
        tasks = self._panels[split]
        if not tasks:
            raise DataError(f"long_qa: env.size={self.size} leaves no {split} tasks; give a larger one (2000 has all)")
        return tasks

    def search(self, query: str) -> Sequence[Any]:
        """The hits that the view shows. Raises EnvError when a retrieval server fails."""
        text = query[:QUERY_CHARS].encode("utf-8", "replace").decode()
        if self.retriever is None or not text:
            return ()
        return self.retriever.search([text], 1 if self.shown.compact else self.top_k)[0]

    def judged(self, record: Record, answer: str) -> Verdict:
        """The judge's verdict on an answer. Raises JudgeError."""
        rubric = self.world.rubric(record, self.shown.compact) if record.parts else Rubric(record.facts)
        judge: Judge = self.judge
        return judge.verdict(*self.shown.asked(record), answer, rubric)

    def start(self, task: Task) -> LongQAEpisode:
        return self._episode(task, State())

    def restore(self, state: EpisodeState) -> LongQAEpisode:
        return self._episode(state.task, state.state)

    def expert(self, noise: float, seed: int) -> Expert:
        """A player that searches what the question names, then gives the reference; errs with probability ``noise``."""
        from agentrl.envs.long_qa.expert import Reader

        expert: Expert = Reader(noise, seed)
        return expert

    def bench(self, seconds: float) -> dict[str, Any]:
        """Speed and memory (see ``bench``), measured for about ``seconds``."""
        from agentrl.envs.long_qa.bench import bench

        return bench(self, seconds)

    def close(self) -> None:
        """Close the judge's connections."""
        self.judge.close()

    def _episode(self, task: Task, state: State) -> LongQAEpisode:
        record = Record.of(task.data, f"task {task.id}")
        if record.parts and any(part.subject not in self.world.encyclopedia.entities for part in record.parts):
            raise DataError(
                f"task {task.id} is of another encyclopedia; expected env.seed and env.size it was made with"
            )
        return LongQAEpisode(self, task, record, state)
