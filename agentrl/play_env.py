"""``agentrl play``: a person plays one episode in the terminal, with the observations that a policy would see."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from agentrl.config import build, nearest
from agentrl.envs.base import Env, Episode, Step, offered
from agentrl.envs.check import said
from agentrl.errors import ConfigError
from agentrl.panel import SPLITS
from agentrl.types import Messages, Task

LISTED = 40  # actions shown at once
HELP = "a number or your own text (> 3 sends the text 3), Enter to see everything again, quit to leave"


def play(cfg: Any) -> dict[str, Any]:
    """Play ``cfg.task`` (an id; default: the first) of ``cfg.split``. Gives task, turns, return, success and parts.

    Ends with the episode, after ``env.max_turns`` replies, or when the person leaves (``quit`` or the end of input).
    Raises ConfigError on an unknown split or task.
    """
    env: Env = build(cfg.env)
    try:
        task = _task(env, str(cfg.split), cfg.task)
        return _Table(env, task, Console(highlight=False)).play()
    finally:
        env.close()


def _task(env: Env, split: str, wanted: str | None) -> Task:
    if split not in SPLITS:
        raise ConfigError(f"split={split}: no such split; {nearest(split, SPLITS)}")
    tasks = env.tasks(split)
    if not wanted:
        return tasks[0]
    found = next((task for task in tasks if task.id == wanted), None)
    if found is None:
        near = nearest(wanted, [task.id for task in tasks])
        hint = near if near.startswith("did") else f"its first is '{tasks[0].id}'"
        raise ConfigError(f"task={wanted}: the {split} split has no such task; {hint}")
    return found


class _Table:
    """One game: what is on the screen, and what was won."""

    def __init__(self, env: Env, task: Task, console: Console) -> None:
        self.env = env
        self.task = task
        self.console = console
        self.episode: Episode = env.start(task)
        self.most = int(getattr(env, "max_turns", 0)) or None
        self.turns = 0
        self.total = 0.0

    def play(self) -> dict[str, Any]:
        step: Step | None = None
        self._show(self.episode.observation)
        while (text := self._ask()) is not None:
            step = self.episode.step(said(text))
            self.turns += 1
            self.total += step.reward
            if not step.parsed:
                self._say("that is not in the grammar of this environment", "yellow")
            if step.reward:
                self._say(f"reward {step.reward:+g}", "green")
            if step.done or self.turns == self.most:
                self._messages(step.observation)
                break
            self._messages(step.observation)
        self.episode.close()
        return self._end(step)

    def _show(self, observation: Messages) -> None:
        """Goal, tools and what is seen now."""
        self.console.print(Panel(_plain(self.episode.goal), title=Text(f"goal of {self.task.id}"), title_align="left"))
        for tool in offered(self.episode):
            about = tool.get("function", {})
            inputs = ", ".join(about.get("parameters", {}).get("properties", {}))
            self._say(f"{about.get('name')}({inputs}): {about.get('description', '')}", "dim")
        self._messages(observation)

    def _ask(self) -> str | None:
        """The next action as text; None when the person leaves."""
        actions = list(self.episode.actions())
        self._list(actions)
        while True:
            left = f"/{self.most}" if self.most else ""
            self.console.print(Text(f"turn {self.turns + 1}{left}> "), end="")
            try:
                line = input()
            except EOFError:
                self.console.print()
                return None
            text = line.strip()
            if text in ("quit", "exit"):
                return None
            if not text:
                self._show(self.episode.observation)
                self._list(actions)
            elif text.isascii() and text.isdigit():
                if 1 <= int(text[:9]) <= len(actions):
                    return actions[int(text[:9]) - 1]
                self._say(f"there are {len(actions)} numbered actions; {HELP}", "yellow")
            else:
                return text[2:] if text.startswith("> ") else line

    def _list(self, actions: Sequence[str]) -> None:
        for number, action in enumerate(actions[:LISTED], 1):
            self.console.print(Text.assemble((f"{number:>4}  ", "cyan"), _clean(action)))
        more = f"and {len(actions) - LISTED} more; " if len(actions) > LISTED else ""
        self._say(f"{more}{HELP}", "dim")

    def _messages(self, messages: Messages) -> None:
        if messages:
            self.console.print(Panel(_plain(messages)))

    def _say(self, text: str, style: str) -> None:
        self.console.print(Text(_clean(text), style=style))

    def _end(self, step: Step | None) -> dict[str, Any]:
        parts = dict(step.info.get("reward_parts", {})) if step is not None else {}
        success = self.total >= self.env.success_return - 1e-9
        over = step is not None and (step.done or self.turns == self.most)
        self._say(f"{'over' if over else 'left'} after {self.turns} turns", "bold")
        table = Table(show_header=False)
        table.add_column()
        table.add_column(justify="right")
        rows = {"return": f"{self.total:g}", "success": "yes" if success else "no"}
        for name, value in {**rows, **{f"part {name}": f"{value:g}" for name, value in parts.items()}}.items():
            table.add_row(Text(name), Text(value))
        self.console.print(table)
        return {
            "task": self.task.id,
            "turns": self.turns,
            "return": self.total,
            "success": success,
            "over": over,
            "reward_parts": parts,
        }


def _plain(messages: Messages) -> Text:
    return Text(_clean("\n".join(message.content for message in messages)).strip("\n"))


def _clean(text: str) -> str:
    """Text without what a terminal would obey."""
    return "".join(char if char.isprintable() or char in "\n\t" else "\N{REPLACEMENT CHARACTER}" for char in text)
