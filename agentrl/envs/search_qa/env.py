"""Search QA, short form: answer a question by searching an encyclopedia. Reward in [0, 1] on the answer.

A re-implementation of the protocol of Search-R1 (Jin et al. 2025, arXiv 2503.09516) over a bundled invented
encyclopedia, any corpus on disk, or a retrieval server. One real task and turn in the text view::

    Answer the given question. ... Question: Who is the mayor of the birthplace of Stouo Jeitraes?
    > <think>I need the birthplace of Stouo Jeitraes.</think>
      <search> birthplace of Stouo Jeitraes </search>
    <information>Doc 1(Title: "Stouo Jeitraes") Stouo Jeitraes, in older papers S. Jeitraes, is a figure of ...
    Doc 2(Title: ...) ...</information>

A malformed reply costs a turn and is told so. The last of ``max_turns`` replies is not searched any more: it ends the
episode. Engines stop at the end of a message, so a reply is cut behind its first search or answer.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from agentrl.encyclopedia import KINDS, Encyclopedia, generate
from agentrl.envs import tags
from agentrl.envs.base import Expert, FieldsTravel, Step
from agentrl.envs.search_qa.questions import Panels, bundled_panels, file_panels, files_of
from agentrl.envs.search_qa.scoring import MEASURES, Scorer
from agentrl.envs.search_qa.session import Search, Session
from agentrl.envs.search_qa.views import MALFORMED, PROMPT, CompactView, TextView, View
from agentrl.errors import ConfigError, DataError
from agentrl.retrieval import Document, Remote, Retriever, Store
from agentrl.types import Message, Messages, Split, Task, panel_hash

BUNDLED, EMBEDDED = "bundled", "embedded"
VIEWS = ("auto", "text", "compact")
QUESTIONS = ("auto", "chain", "mixed")


class SearchEpisode:
    """One play of one question. ``session`` is its present moment."""

    __slots__ = ("_env", "session")

    def __init__(self, env: SearchQA, session: Session) -> None:
        self._env = env
        self.session = session

    @property
    def task(self) -> Task:
        return self.session.task

    @property
    def goal(self) -> Messages:
        """The prompt with the question, or the compact goal line."""
        return self._env.shown.goal(self.session)

    @property
    def observation(self) -> Messages:
        """Nothing in the text view, whose prompt says it all; the empty notes in the compact one."""
        return self._env.shown.first(self.session)

    def step(self, action: Message) -> Step:
        """Play one reply.

        ``info``: ``action`` (search, answer, invalid), after a search ``query`` and ``documents`` (ids), at the end
        ``answer`` (None: there is none), ``golds`` and ``reward_parts`` (answered, em, f1, subem).
        """
        view, before = self._env.shown, self.session
        if before.done:
            return Step((), 0.0, True, parsed=False, info={"action": "invalid"})
        meant = view.read(action.content)
        verb, text = meant or ("invalid", "")
        last = before.left <= 1
        self.session = replace(before, left=before.left - 1, text=before.text + tags.cut(action.content))
        info: dict[str, Any] = {"action": verb}
        if verb == "answer" or last:
            return self._end(text if verb == "answer" else None, meant is not None, info)
        if verb == "search":
            documents = self._env.find(text)
            self.session = replace(self.session, searches=(*before.searches, Search(text, documents)))
            info |= {"query": text, "documents": [document.id for document in documents]}
        shown = view.found(self.session) if verb == "search" else view.refused(self.session)
        self.session = replace(self.session, text=self.session.text + shown)
        return Step((Message("user", shown),), 0.0, False, parsed=meant is not None, info=info)

    def _end(self, answered: str | None, parsed: bool, info: Mapping[str, Any]) -> Step:
        view = self._env.shown
        answer = view.final(self.session, answered)
        golds = list(view.golds(self.session))
        reward, parts = self._env.scorer(answer, golds)
        self.session = replace(self.session, done=True)
        return Step(
            (), reward, True, parsed=parsed, info={**info, "answer": answer, "golds": golds, "reward_parts": parts}
        )

    def actions(self) -> Sequence[str]:
        """Some valid replies: searches for what is named, answers with what was found."""
        return self._env.shown.actions(self.session)

    def snapshot(self) -> Session:
        return self.session

    def close(self) -> None:
        """Nothing to free."""


@dataclass(frozen=True)
class SearchQA(FieldsTravel):
    """The environment; its fields are the keys of ``conf/env/search_qa.yaml``. Building it loads nothing.

    data           ``bundled``, or a file or folder of questions (see ``questions``)
    test_data      a file or folder for the test split; empty: a tenth of ``data``
    corpus         ``auto`` (bundled: the encyclopedia; a file with paragraphs: these), or a corpus file
    retriever      ``embedded`` (BM25 in this process), or the URL of a server with Search-R1's ``/retrieve``
    index          folder where indexes of corpus files are kept
    timeout_s, retries  of one request to a server
    view           ``auto`` (bundled: compact; files: text), ``text``, ``compact``
    max_turns      replies per episode; the last one cannot search
    top_k          passages per search
    reward         ``em``, ``f1`` or ``bleu`` (length-aware, for PRS); success is exact match with each
    format_score   what a wrong answer pays, at least
    compat         Search-R1's quirks: the two-answer rule, an observation cut without its closing tag
    malformed      what a malformed reply is told: as in the ``code``, or as in the ``paper``
    strict         verl-agent's rule: a reply with both tags, or one twice, is malformed
    observation_words  of one observation, at most; 0: no cut
    prompt         ``bundled`` (our words around the protocol), or a text file with ``{question}``
    questions      bundled ones: ``chain``, ``mixed`` (and comparisons and sums), ``auto`` (compact: chain)
    hops           longest bundled chain
    seed, entities of the encyclopedia: part of the data, not of a run
    val, test      panel sizes, at most
    """

    data: str = BUNDLED
    test_data: str = ""
    corpus: str = "auto"
    retriever: str = EMBEDDED
    index: str = "outputs/indexes"
    timeout_s: float = 10.0
    retries: int = 3
    view: str = "auto"
    max_turns: int = 5
    top_k: int = 3
    reward: str = "em"
    format_score: float = 0.0
    compat: bool = True
    malformed: str = "code"
    strict: bool = False
    observation_words: int = 0
    prompt: str = BUNDLED
    questions: str = "auto"
    hops: int = 3
    seed: int = 0
    entities: int = 2000
    val: int = 200
    test: int = 500

    def __post_init__(self) -> None:
        choices = {"view": VIEWS, "reward": tuple(MEASURES), "malformed": tuple(MALFORMED), "questions": QUESTIONS}
        for name, known in choices.items():
            if getattr(self, name) not in known:
                raise ConfigError(f"env.{name} is {getattr(self, name)!r}; expected one of {', '.join(known)}")
        for name, low, high in (
            ("max_turns", 1, 1000), ("top_k", 1, 100), ("hops", 1, 3), ("entities", 200, 10**7), ("val", 1, 10**9),
            ("test", 1, 10**9), ("observation_words", 0, 10**9), ("retries", 0, 100), ("timeout_s", 0.001, 3600),
            ("format_score", 0.0, 0.99),
        ):  # fmt: skip
            if not low <= getattr(self, name) <= high:
                raise ConfigError(f"env.{name} is {getattr(self, name)}; expected a number from {low} to {high}")
        if self.retriever != EMBEDDED and not self.retriever.startswith(("http://", "https://")):
            raise ConfigError(f"env.retriever is {self.retriever!r}; expected embedded or a URL (http://HOST:PORT)")
        if self.view == "compact" and (self.data != BUNDLED or self.retriever != EMBEDDED or self.corpus != "auto"):
            raise ConfigError(
                "env.view is 'compact', which shows only the bundled encyclopedia, but env.data, env.corpus or "
                "env.retriever names another source; use view=text (model.view of a full-sized model)"
            )
        if self.data == BUNDLED and self.test_data:
            raise ConfigError("env.test_data is set but env.data is 'bundled', which has its own test split; drop it")

    @property
    def success_return(self) -> float:
        """An exact match."""
        return 1.0

    @property
    def view_name(self) -> str:
        """``text`` or ``compact`` (``auto`` resolved)."""
        plain = self.data == BUNDLED and self.retriever == EMBEDDED and self.corpus == "auto"
        return self.view if self.view != "auto" else "compact" if plain else "text"

    @property
    def kinds(self) -> tuple[str, ...]:
        """Kinds of bundled questions (``auto`` resolved)."""
        chain = self.questions == "chain" or (self.questions == "auto" and self.view_name == "compact")
        return ("chain",) if chain else KINDS

    @cached_property
    def world(self) -> Encyclopedia:
        """The bundled encyclopedia."""
        return generate(self.seed, self.entities)

    @cached_property
    def scorer(self) -> Scorer:
        return Scorer(self.reward, self.format_score)

    @cached_property
    def shown(self) -> View:
        """The view that episodes ask. Raises DataError when the prompt file cannot be used."""
        if self.view_name == "compact":
            return CompactView()
        return TextView(
            self._prompt_text(),
            self.malformed,
            self.strict,
            self.compat,
            self.observation_words,
            lambda: self.world if self.data == BUNDLED else None,
        )

    def _prompt_text(self) -> str:
        if self.prompt == BUNDLED:
            return PROMPT
        try:
            text = Path(self.prompt).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(
                f"env.prompt={self.prompt}: cannot be read ({error}); give a text file, or bundled"
            ) from None
        if "{question}" not in text:
            raise DataError(f"env.prompt={self.prompt}: holds no {{question}}; put it where the question belongs")
        return text

    @cached_property
    def store(self) -> Retriever:
        """What is searched, opened at first use. Raises DataError when the corpus cannot be read."""
        if self.retriever != EMBEDDED:
            return Remote(self.retriever, self.timeout_s, self.retries)
        if self.corpus != "auto":
            return Store.of_file(Path(self.corpus), Path(self.index))
        if self.data != BUNDLED:
            return self._own_paragraphs()
        passages = self.world.lines if self.view_name == "compact" else self.world.passages
        return Store.build([Document.of(passage.id, passage.title, passage.text) for passage in passages])

    def _own_paragraphs(self) -> Store:
        """The paragraphs that come with the questions, where they do."""
        path, *more = files_of(Path(self.data))
        try:
            if more:
                raise DataError("a folder")
            return Store.of_file(path, Path(self.index))
        except DataError:
            raise DataError(
                f"env.data={self.data}: its questions come without paragraphs; give a corpus of JSON lines "
                "(env.corpus=FILE) or a server (env.retriever=URL)"
            ) from None

    def find(self, query: str) -> tuple[Document, ...]:
        """The best ``top_k`` documents. Raises EnvError when a server fails."""
        return tuple(hit.document for hit in self.store.search([query], self.top_k)[0])

    @cached_property
    def _panels(self) -> Panels:
        sizes = {"val": self.val, "test": self.test}
        if self.data == BUNDLED:
            return bundled_panels(self.world, self.kinds, self.hops, sizes)
        return file_panels(Path(self.data), Path(self.test_data) if self.test_data else None, sizes)

    @property
    def fingerprint(self) -> Mapping[str, Any]:
        """What results depend on; loads questions and corpus."""
        names = ("view_name", "top_k", "max_turns", "reward", "format_score", "compat", "malformed", "strict")
        return {
            "env": "search_qa",
            "variant": "search_r1",
            **{name: getattr(self, name) for name in (*names, "observation_words", "seed", "entities")},
            "prompt": hashlib.sha256(self._prompt_text().encode()).hexdigest()[:16],
            "questions": {split: panel_hash(tasks) for split, tasks in self._panels.items()},
            "retrieval": dict(self.store.fingerprint),
        }

    def tasks(self, split: Split) -> Sequence[Task]:
        """The tasks of a split, always in the same order. Raises DataError when the data give it none."""
        tasks = self._panels[split]
        if not tasks:
            raise DataError(f"search_qa data {self.data!r} leave no {split} questions; give more, or env.test_data")
        return tasks

    def start(self, task: Task) -> SearchEpisode:
        key = "short" if self.view_name == "compact" else "question"
        if key not in task.data:
            raise DataError(f"task {task.id!r} holds no {key}; expected a task made by this environment and view")
        return SearchEpisode(self, Session(task, self.max_turns))

    def restore(self, state: Session) -> SearchEpisode:
        return SearchEpisode(self, state)

    def expert(self, noise: float, seed: int) -> Expert:
        """A seeker that knows which facts are needed and errs with probability ``noise`` (see ``seeker``)."""
        from agentrl.envs.search_qa.seeker import Seeker

        expert: Expert = Seeker(self.shown, noise, seed)
        return expert

    def replay(self, golden: Path) -> dict[str, Any]:
        """Compare with a recorded file of the original (see ``replay``). Raises DataError on a damaged file."""
        from agentrl.envs.search_qa.replay import replay

        return replay(golden)

    def bench(self, seconds: float) -> dict[str, Any]:
        """Speed and memory (see ``bench``), measured for about ``seconds``."""
        from agentrl.envs.search_qa.bench import bench

        return bench(self, seconds)

    def close(self) -> None:
        """Nothing to free."""
