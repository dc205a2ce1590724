"""The ``code`` tool: Python of a stranger, run in a process of its own behind limits.

One server per process is started at first use (``sandbox_child``); it forks for every program, so a program costs a
fork and leaves nothing behind. Results are remembered by source.

Guaranteed on Linux: a program that runs too long, prints or allocates too much, or breaks its interpreter ends as an
error; it cannot open, write or list files, start processes or threads, import beyond a short list, or reach the
network (refused by an audit hook; where the system lets us, there is also no network to reach). Not guaranteed: that a
flaw of CPython itself cannot be used to leave the interpreter (there is no system-call filter), in which case the
program has the rights of the user nobody, or, without root, of the user who trains. Elsewhere than on Linux the memory
limit may be ignored. What a program prints depends on its source alone, except where it runs out of CPU time.
"""

from __future__ import annotations

import atexit
import json
import os
import select
import shutil
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agentrl.errors import EnvError

CHILD = Path(__file__).with_name("sandbox_child.py")
REMEMBERED = 10_000  # results kept; the oldest go first
LONGEST = 10_000  # characters of a program
GRACE_S = 5.0  # beyond the program's own limit until the server counts as hung


@dataclass(frozen=True, slots=True)
class Ran:
    """What a program printed, and why it ended early ("" when it did not)."""

    output: str
    error: str = ""


class Sandbox:
    """Runs programs; ``cpu_s`` seconds of CPU time, ``memory_mib`` of address space, ``output_chars`` printed."""

    def __init__(self, cpu_s: int = 1, memory_mib: int = 256, output_chars: int = 2000) -> None:
        self._limits = {
            "cpu_s": cpu_s,
            "memory_mib": memory_mib,
            "output_chars": output_chars,
            "wall_s": 3.0 * cpu_s + 2.0,
        }
        self._known: dict[str, Ran] = {}
        self._lock = threading.Lock()
        self._server: subprocess.Popen[bytes] | None = None
        self._owner = 0

    def run(self, source: str) -> Ran:
        """Run a program, or remember what it did. Raises EnvError when no server can be started."""
        with self._lock:
            found = self._known.get(source)
            if found is None:
                found = self._ask(source)
                if len(self._known) >= REMEMBERED:
                    del self._known[next(iter(self._known))]
                self._known[source] = found
            return found

    def close(self) -> None:
        """Stop the server."""
        with self._lock:
            self._stop()

    def _ask(self, source: str) -> Ran:
        if len(source) > LONGEST:
            return Ran("", f"the program has {len(source)} characters, more than {LONGEST}")
        server = self._started()
        body = json.dumps({**self._limits, "source": source}).encode()
        try:
            deadline = time.monotonic() + self._limits["wall_s"] + GRACE_S
            _write(server, struct.pack(">I", len(body)) + body, deadline)
            answer = self._answer(server, deadline)
        except (OSError, ValueError):
            answer = None
        if answer is None:  # hung or broken by the program: the next one gets a fresh server
            self._stop()
            return Ran("", "the program was killed")
        return Ran(str(answer["output"]), str(answer["error"]))

    def _answer(self, server: subprocess.Popen[bytes], deadline: float) -> dict[str, Any] | None:
        head = _read(server, 4, deadline)
        body = _read(server, struct.unpack(">I", head)[0], deadline) if head else None
        return json.loads(body) if body else None

    def _started(self) -> subprocess.Popen[bytes]:
        if self._server is not None and self._owner == os.getpid() and self._server.poll() is None:
            return self._server
        if os.name != "posix":
            raise EnvError("tool_planning: the code tool needs Linux or macOS; use another machine for it")
        folder = tempfile.mkdtemp(prefix="agentrl-code-")
        try:
            self._server = subprocess.Popen(
                [*isolation(), sys.executable, "-P", "-s", "-S", "-B", "-X", "utf8", str(CHILD)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                cwd=folder,
                env={"PYTHONHASHSEED": "0"},
                start_new_session=True,
            )
        except OSError as error:
            raise EnvError(f"tool_planning: the code tool's server cannot be started ({error})") from error
        finally:
            shutil.rmtree(folder, ignore_errors=True)  # it stays the server's folder, and nothing can be put there
        self._owner = os.getpid()
        atexit.register(self.close)
        return self._server

    def _stop(self) -> None:
        server, self._server = self._server, None
        if server is None or self._owner != os.getpid():
            return
        server.kill()
        with suppress(subprocess.TimeoutExpired):
            server.wait(GRACE_S)
        for stream in (server.stdin, server.stdout):
            if stream is not None:
                stream.close()
        atexit.unregister(self.close)


def isolation() -> Sequence[str]:
    """What stands before the interpreter so that it has no network; nothing where the system does not let us."""
    global _isolation
    if _isolation is None:
        _isolation = ()
        tool = shutil.which("unshare")
        for flags in (("--net",), ("--user", "--net")) if tool else ():
            tried = [str(tool), *flags]
            with suppress(subprocess.TimeoutExpired):
                if subprocess.run([*tried, "true"], capture_output=True, check=False, timeout=GRACE_S).returncode == 0:
                    _isolation = tuple(tried)
                    break
    return _isolation


_isolation: tuple[str, ...] | None = None


def _write(server: subprocess.Popen[bytes], data: bytes, deadline: float) -> None:
    """Hand it over; a server that is stopped leaves the pipe full. Raises OSError when it is late or gone."""
    assert server.stdin is not None
    pipe = server.stdin.fileno()
    os.set_blocking(pipe, False)
    while data:
        if not select.select([], [pipe], [], max(0.0, deadline - time.monotonic()))[1]:
            raise TimeoutError
        data = data[os.write(pipe, data) :]


def _read(server: subprocess.Popen[bytes], count: int, deadline: float) -> bytes | None:
    """So many bytes of the server's output; None when it ends or is late."""
    assert server.stdout is not None
    parts = b""
    while len(parts) < count:
        ready, _, _ = select.select([server.stdout], [], [], max(0.0, deadline - time.monotonic()))
        part = os.read(server.stdout.fileno(), count - len(parts)) if ready else b""
        if not part:
            return None
        parts += part
    return parts
