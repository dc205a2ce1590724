"""Calls that leave the process come back in time, whatever the other side does."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from agentrl.cluster.base import WorkerLost
from agentrl.cluster.processes import Process
from agentrl.engine.base import Request, Sampling
from agentrl.engine.scripted import Scripted
from agentrl.envs.tool_planning import sandbox
from agentrl.errors import EnvError
from agentrl.retrieval import Remote
from tests.test_local_model import model


@pytest.fixture
def dripping() -> Iterator[str]:
    """A server that sends a byte of its reply now and then, for ever."""
    server = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        connection, _ = server.accept()
        try:
            connection.recv(1 << 16)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
            while True:
                connection.sendall(b" ")
                time.sleep(0.05)
        except OSError:
            return

    threading.Thread(target=serve, daemon=True).start()
    yield f"http://127.0.0.1:{server.getsockname()[1]}"
    server.close()


def test_a_retriever_that_drips(dripping: str) -> None:
    with pytest.raises(EnvError, match="its reply did not end in time"):
        Remote(dripping, timeout_s=0.5, retries=0).search(["moon"], 3)


def test_a_stopped_worker_that_does_not_even_read() -> None:
    """The request is larger than what a pipe holds, so that sending it waits."""
    worker = Process(Scripted(["red"]), model(Scripted(["red"])).source(), "cpu", {"OMP_NUM_THREADS": "1"})
    try:
        worker.ready(300.0)
        os.kill(worker.pid or 0, signal.SIGSTOP)
        with pytest.raises(WorkerLost, match="did not answer 'generate' within 1 s"):
            worker.ask("generate", [Request(tuple(range(400_000)), 0, 4)], Sampling(), timeout_s=1.0)
    finally:
        worker.kill()


def test_a_stopped_sandbox(monkeypatch: pytest.MonkeyPatch) -> None:
    """The program is larger than what a pipe holds; the next one gets a fresh server."""
    monkeypatch.setattr(sandbox, "GRACE_S", 0.5)
    box = sandbox.Sandbox()
    box._limits["wall_s"] = 1.0
    assert box.run("print(6 * 7)").output.strip() == "42"
    assert box._server is not None
    os.kill(box._server.pid, signal.SIGSTOP)
    assert box.run("#" + "\U0001f600" * 9_900).error == "the program was killed"
    box._limits["wall_s"] = 20.0
    assert box.run("print(6 * 8)").output.strip() == "48"
    box.close()
