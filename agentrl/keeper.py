"""A small process that looks after another one's watchdog, and what both know about processes.

The watchdog is a thread, so it cannot run while other code holds the interpreter. It tells the keeper at each of its
ticks that it lives; when it does not for too long, although the process is not stopped, the keeper writes what is known
and ends the process by SIGKILL. It is started as a script, without the rest of agentrl, and ends with the process.

Linux only: it reads /proc. Elsewhere the watchdog works without it.
"""

from __future__ import annotations

import json
import os
import re
import select
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import subprocess

FILE = "hang.txt"
MEMFD = "agentrl-stacks"  # name of the file in memory to which a process writes its stacks on SIGUSR1
MARGIN_S = 2.0  # beyond what the watchdog allows: a busy machine may keep its thread waiting
STACKS_S = 5.0  # a process has so long to write its stacks
STOPPED = "TtZX"  # states in which a process does not run: stopped, traced, gone

ADVICE = {
    "environment": "an environment has to come back from every step: give what it calls a deadline and let it raise "
    "EnvError (`agentrl env check` helps)",
    "engine": "see the engine's words above; a GPU or a model that hangs wants a restart, smaller calls are made by "
    "engine.max_batch",
    "learner": "smaller forward passes are made by learner.micro_tokens",
    "sync": "the engine did not take the weights; see its words above",
    "judge": "see that the model behind the judge, checker or summarizer answers; its timeout_s says how long one "
    "answer may take",
    "retriever": "see that the retrieval server answers",
    "disk": "see that the disk of the run's folder answers and has room",
    "setup": "see whether a download or a disk hangs",
}


class Child(NamedTuple):
    """A process: its id, its state as /proc has it, its command line."""

    pid: int
    state: str
    command: str


def sentence(sign: tuple[str, str, str], silent_s: float, quiet_s: float, folder: Path) -> str:
    """What a person reads: which part was silent, for how long, what to do, where the stacks are, how to go on."""
    part, what, subject = sign
    doing = f"{what} {subject}".strip()
    text = (
        f"agentrl: {part}: nothing has happened for {silent_s:.3g} s since this began: {doing}; "
        f"{ADVICE.get(part, 'see what it waits for')}; if it does take that long, raise watchdog.quiet_s (now "
        f"{quiet_s:g}). Stacks and queues: {folder / FILE}"
    )
    saved = any((folder / "checkpoints").glob("step_*/manifest.json"))
    return text + (f"\nagentrl: continue with: agentrl train resume={folder}" if saved else "")


def descendants(pid: int) -> list[Child]:
    """All processes below this one, children first; none where there is no /proc."""
    parents: dict[int, list[Child]] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, ValueError, IndexError):
            state, parent = _stat(int(entry.name))
            words = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
            parents.setdefault(parent, []).append(Child(int(entry.name), state, words[:200]))
    found = list(parents.get(pid, ()))
    for child in found:  # grows while it is gone through
        found += parents.get(child.pid, ())
    return [child for child in found if child.state not in "ZX"]


def stacks_of(pid: int) -> str:
    """The stacks of a process that can write them (``watchdog.show_stacks``); empty for any other."""
    for link in _links(pid):
        with suppress(OSError):
            if MEMFD not in os.readlink(link):
                continue
            before = link.stat().st_size
            os.kill(pid, signal.SIGUSR1)
            return _grown(link, before)
    return ""


def end(pid: int, children: list[Child]) -> None:
    """SIGKILL to children, then to the process itself."""
    for one in (*(child.pid for child in children), pid):
        with suppress(OSError):
            os.kill(one, signal.SIGKILL)


class Keeper:
    """The keeper as its process sees it. ``alive`` never waits."""

    def __init__(self, quiet_s: float, tick_s: float, folder: Path) -> None:
        import subprocess  # here, because the keeper's own process starts in half the time without

        self._child: subprocess.Popen[bytes] | None = None
        if not Path("/proc/self/stat").exists():
            return
        words = [str(os.getpid()), str(quiet_s), str(tick_s), str(folder)]
        with suppress(OSError):
            self._child = subprocess.Popen(
                [sys.executable, "-I", "-S", __file__, *words],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                start_new_session=True,
            )
            assert self._child.stdin is not None
            os.set_blocking(self._child.stdin.fileno(), False)

    @property
    def pid(self) -> int:
        """Its process id; 0 where there is none."""
        return self._child.pid if self._child else 0

    def alive(self, allowed_s: float, sign: tuple[str, str, str]) -> None:
        """The watchdog lives, may next be silent for so long, and last heard this sign."""
        if self._child is not None and self._child.stdin is not None:
            with suppress(OSError, ValueError):
                os.write(self._child.stdin.fileno(), (json.dumps([allowed_s, sign]) + "\n").encode())

    def close(self) -> None:
        """End it."""
        if self._child is not None:
            self._child.kill()
            self._child.wait()
            if self._child.stdin is not None:
                self._child.stdin.close()
            self._child = None


def keep(pid: int, quiet_s: float, tick_s: float, folder: Path) -> None:
    """The life of the keeper's process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    silent, allowed, sign, text = 0.0, quiet_s, ["setup", "starting", ""], b""
    while True:
        if select.select([0], [], [], tick_s)[0]:
            more = os.read(0, 1 << 16)
            if not more:
                return  # the process has ended, or needs no keeper any more
            *lines, text = (text + more).split(b"\n")
            if lines:
                allowed, sign = json.loads(lines[-1])
                silent = 0.0
            continue
        try:
            silent += 0.0 if _stat(pid)[0] in STOPPED else tick_s
        except OSError:
            return
        if silent >= allowed + MARGIN_S:
            _farewell(pid, (sign[0], sign[1], sign[2]), silent, quiet_s, folder)
            return


def _farewell(pid: int, sign: tuple[str, str, str], silent: float, quiet_s: float, folder: Path) -> None:
    stacks = stacks_of(pid)
    told = held(stacks, sentence(sign, silent, quiet_s, folder))
    children = [child for child in descendants(pid) if child.pid != os.getpid()]
    with suppress(OSError):
        os.write(2, f"\n{told}\n".encode())
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / FILE).open("w", encoding="utf-8") as file:
            file.write(f"{told}\n\n{time.strftime('%Y-%m-%d %H:%M:%S %z')}, process {pid}; its interpreter was held\n")
            file.writelines(report(children))
            file.write(f"\nthreads of this process\n{stacks}")
    end(pid, children)


def held(stacks: str, text: str) -> str:
    """The sentence, with the place in the main thread that holds the interpreter."""
    main_thread = re.split(r"(?:Thread|Current thread) 0x.*\n", stacks)[-1]
    frames = re.findall(r'File "(.*)", line (\d+) in (\S+)', main_thread)[:2]
    place = ", called by ".join(f"{name} ({path}, line {line})" for path, line, name in frames)
    first, rest = text.split(": nothing", 1)
    return f"{first}: the interpreter is held by {place or 'C code'}, at or soon after this sign of life: nothing{rest}"


def report(children: list[Child]) -> Iterator[str]:
    """The child processes and their stacks, for the file."""
    yield "\nchild processes\n"
    yield from (f"  {child.pid} (state {child.state}) {child.command}\n" for child in children)
    for child in children:
        if told := stacks_of(child.pid):
            yield f"\nthreads of child process {child.pid}\n{told}"


def _stat(pid: int) -> tuple[str, int]:
    """State and parent of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return fields[0], int(fields[1])


def _links(pid: int) -> list[Path]:
    with suppress(OSError):
        return list(Path(f"/proc/{pid}/fd").iterdir())
    return []


def _grown(link: Path, before: int) -> str:
    """What was written behind ``before`` once it grows no more; empty when nothing comes in time."""
    size, deadline = before, time.monotonic() + STACKS_S
    while time.monotonic() < deadline:
        time.sleep(0.1)
        now = link.stat().st_size
        if now > before and now == size:
            break
        size = now
    with link.open("rb") as file:
        file.seek(before)
        return file.read().decode(errors="replace")


def main(words: list[str]) -> Any:
    """``keeper.py PID QUIET_S TICK_S FOLDER``."""
    keep(int(words[0]), float(words[1]), float(words[2]), Path(words[3]))


if __name__ == "__main__":
    main(sys.argv[1:])
