"""The compact view: question, notes and results in 15-70 known words that a tiny model can read.

It searches the facts of the encyclopedia one by one (``Encyclopedia.lines``) under the entities' short names. Goal and
observation are all that a player needs: the first result of every earlier search is kept as a note::

    ask slim lamp author then born
    seen none | results none | left 4
    > search author slim lamp
    seen none | results slim lamp author norwell rug | slim lamp form book | slim lamp genre red | left 3
    > search born norwell rug
    seen slim lamp author norwell rug | results norwell rug born 31 | norwell rug birthplace silk bun | ... | left 2
    > answer 31

Actions: ``search <words>`` and ``answer <words>``. ``left`` counts the searches that may follow; at 0 only an answer
helps.
"""

from __future__ import annotations

from collections.abc import Sequence

from agentrl.encyclopedia import SHORT_RELATIONS
from agentrl.envs.search_qa.seeker import Line
from agentrl.envs.search_qa.session import Session

VERBS = ("search", "answer")
NOTES = 4  # the last ones that are shown
COMPACT_WORDS = (  # words of the view that the bundled tokenizer has spare tokens for
    "capital", "population", "founded", "leader", "mayor", "birthplace", "born", "profession", "spouse", "published",
    "genre", "form", "venue", "winner",
)  # fmt: skip


def goal_text(session: Session) -> str:
    """The goal line."""
    return f"ask {session.task.data['short']['question']}"


def notes(session: Session) -> list[str]:
    """The best line of every earlier search, each once, the latest last."""
    tops = [search.documents[0].text for search in session.searches[:-1] if search.documents]
    return list(dict.fromkeys(reversed(tops)))[:NOTES][::-1]


def results(session: Session) -> list[str]:
    """The lines that the last search brought."""
    return [document.text for document in session.searches[-1].documents] if session.searches else []


def observe(session: Session) -> str:
    """The observation line."""
    if session.done:
        return "done"
    seen, found = notes(session), results(session)
    parts = [
        "seen",
        " | ".join(seen) or "none",
        "| results",
        " | ".join(found) or "none",
        "| left",
        str(session.left - 1),
    ]
    return " ".join(parts)


def parse(reply: str) -> tuple[str, str] | None:
    """(verb, words) of a reply; None when it is not in the grammar."""
    verb, _, rest = reply.strip().partition(" ")
    words = " ".join(rest.split())
    return (verb, words) if verb in VERBS and words and "\n" not in reply.strip() else None


def lines(session: Session) -> list[Line]:
    """The facts that are shown."""
    return [line for text in [*notes(session), *results(session)] if (line := line_of(text)) is not None]


def line_of(text: str) -> Line | None:
    """A fact line taken apart at its relation."""
    words = text.split()
    place = next((i for i, word in enumerate(words) if word in SHORT_RELATIONS), None)
    return None if not place else Line(" ".join(words[:place]), words[place], " ".join(words[place + 1 :]))


def actions(session: Session) -> Sequence[str]:
    """Searches for every relation of whatever is named, and answers with every value that is shown."""
    if session.done:
        return []
    shown = lines(session)
    answers = [f"answer {value}" for value in dict.fromkeys(line.value for line in shown)]
    if session.left <= 1:
        return answers or ["answer none"]
    start = session.task.data["short"]["hops"][0][0]
    names = dict.fromkeys([start, *(name for line in shown for name in (line.subject, line.value) if " " in name)])
    return [*(f"search {relation} {name}" for name in names for relation in SHORT_RELATIONS), *answers]
