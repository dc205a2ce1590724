"""Questions with gold answers: the bundled ones, and files in the forms that are found in the field.

============================================  ==================================================================
one record                                    sets
============================================  ==================================================================
{question, golden_answers}                    FlashRAG's NQ, TriviaQA, PopQA
{question, answer, (answer_aliases)}          R1-Searcher's HotpotQA, 2Wiki, MuSiQue, Bamboogle; the originals
the same with {context, supporting_facts}     HotpotQA and 2Wiki with distractors: its paragraphs make a corpus
{extra_info: {question, answer}}              Agentic-RAG's NQ and MuSiQue
============================================  ==================================================================

Files are JSON lines or one JSON list, plain or gzipped; a folder stands for all such files in it. ``answer`` is a text
or a list of texts. Records are split by a hash of their question, so the same question is never in two splits.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from agentrl.answers import normalize
from agentrl.encyclopedia import Encyclopedia, Question, questions, split_of
from agentrl.errors import DataError
from agentrl.retrieval import read_lines
from agentrl.types import Split, Task

SPLITS: tuple[Split, ...] = ("train", "val", "test")
PER_REGION = 40  # bundled questions about each region
SUFFIXES = (".jsonl", ".json", ".jsonl.gz", ".json.gz")

Panels = dict[Split, list[Task]]


def bundled_panels(world: Encyclopedia, kinds: Sequence[str], hops: int, sizes: Mapping[str, int]) -> Panels:
    """Questions about the encyclopedia, a region in one split: its facts are its own. ``sizes`` of val and test."""
    panels: Panels = {split: [] for split in SPLITS}
    for question in questions(world, kinds, range(1, hops + 1), PER_REGION):
        split = split_of(question.region)
        panels[split].append(Task(_id(question), split, question.region, _data(world, question)))
    return {split: tasks[: sizes.get(split)] for split, tasks in panels.items()}


def file_panels(data: Path, test_data: Path | None, sizes: Mapping[str, int]) -> Panels:
    """Questions of files: 80 % train, 10 % val, 10 % test; with ``test_data`` 90 % train, 10 % val, and all of that.

    A question that is in ``test_data`` too is left out of train and val.
    """
    panels: Panels = {split: [] for split in SPLITS}
    held = {} if test_data is None else _by_family(test_data)
    for family, record in _by_family(data).items():
        if family in held:
            continue
        tenth = int(hashlib.sha256(family.encode()).hexdigest()[:8], 16) % 10
        split: Split = "val" if tenth == 0 else "test" if tenth == 1 and test_data is None else "train"
        panels[split].append(_task(family, record, split))
    panels["test"] += [_task(family, record, "test") for family, record in held.items()]
    return {split: tasks[: sizes.get(split)] for split, tasks in panels.items()}


def _id(question: Question) -> str:
    """``bundled/2-hop/...`` for a chain of two facts, ``bundled/comparison/...``: the kind can be told by a glob."""
    kind, _, rest = question.id.partition("/")
    return f"bundled/{f'{len(question.hops)}-hop' if kind == 'chain' else kind}/{rest}"


def files_of(path: Path) -> list[Path]:
    """The question files of a path: itself, or those in the folder. Raises DataError when there is none."""
    if path.is_file():
        return [path]
    found = sorted(entry for entry in path.glob("*") if entry.name.endswith(SUFFIXES)) if path.is_dir() else []
    if not found:
        raise DataError(f"env.data={path}: there is no such file, nor a folder with {', '.join(SUFFIXES)} files")
    return found


def read_questions(path: Path) -> Iterator[dict[str, Any]]:
    """``{question, answers, support}`` of every record of a file. Raises DataError naming the first that is none."""
    for number, record in read_lines(path):
        inner = record.get("extra_info")
        source = inner if isinstance(inner, Mapping) else record
        golds = source.get("golden_answers", source.get("answer"))
        golds = [golds] if isinstance(golds, str) else golds
        more = source.get("answer_aliases", [])
        question = source.get("question")
        if not isinstance(question, str) or not _texts(golds) or not golds or not _texts(more):
            raise DataError(
                f"{path}, line {number}: expected question (text) and golden_answers or answer (text or list of "
                f"texts), got the keys {', '.join(sorted(record)) or '(none)'}"
            )
        facts = record.get("supporting_facts")
        pairs = [fact for fact in facts if isinstance(fact, list) and len(fact) == 2] if isinstance(facts, list) else []
        support = list(dict.fromkeys(str(title) for title, _ in pairs))
        yield {"question": question.strip(), "answers": [*golds, *more], "support": support}


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(text, str) for text in value)


def _by_family(path: Path) -> dict[str, dict[str, Any]]:
    """Records by normalised question, the first of each, in order."""
    found: dict[str, dict[str, Any]] = {}
    for file in files_of(path):
        for number, record in enumerate(read_questions(file)):
            found.setdefault(normalize(record["question"]), {**record, "source": f"{file.name}/{number}"})
    return found


def _task(family: str, record: Mapping[str, Any], split: Split) -> Task:
    data = {key: value for key, value in record.items() if key != "source"}
    return Task(record["source"], split, family, data)


def _data(world: Encyclopedia, question: Question) -> dict[str, Any]:
    """What a bundled task carries. ``hops``: [subject, relation, value] in the order in which they are needed."""
    facts = [hop.fact for hop in question.hops]
    return {
        "kind": question.kind,
        "question": question.text,
        "answers": [question.answer, *question.aliases],
        "support": list(question.support),
        "hops": [[fact.subject, fact.relation, fact.value] for fact in facts],
        "short": {
            "question": question.short,
            "answers": [question.short_answer],
            "hops": [[world.entities[fact.subject].short, fact.relation, fact.short] for fact in facts],
        },
    }
