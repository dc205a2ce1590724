"""A model that is nowhere is told soon: the hub is asked once, and not for long."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from agentrl import hub
from agentrl.chat import Chat
from agentrl.errors import ConfigError
from agentrl.hub import require_reachable
from agentrl.model.loading import load
from agentrl.model.placement import Placement
from tests.toy import save_toy_model

ABSENT = b"HTTP/1.1 404 Not Found\r\nX-Error-Code: RepoNotFound\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


@pytest.fixture(autouse=True)
def apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing was fetched before, nothing was asked before."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr(hub, "ANSWER_S", 0.5)
    require_reachable.cache_clear()


@contextmanager
def hub_that(answer: bytes | None, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[bytes]]:
    """A hub on this machine that gives this answer, or says nothing; what it was asked."""
    asked: list[bytes] = []
    server = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        kept: list[Any] = []
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            asked.append(connection.recv(4096).splitlines()[0])
            kept.append(connection)
            if answer is not None:
                connection.sendall(answer)
                connection.close()

    threading.Thread(target=serve, daemon=True).start()
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", f"http://127.0.0.1:{server.getsockname()[1]}")
    yield asked
    server.shutdown(socket.SHUT_RDWR)
    server.close()


def test_a_name_that_the_hub_does_not_have(monkeypatch: pytest.MonkeyPatch) -> None:
    said = r"model\.path: the hub has no model 'nope', and there is no folder 'nope' here; check the name"
    with hub_that(ABSENT, monkeypatch) as asked:
        with pytest.raises(ConfigError, match=said) as error:
            Chat.load("nope")
        with pytest.raises(ConfigError, match=said):
            load("nope", Placement(None, None, False), "sdpa", True)  # type: ignore[arg-type]
    assert error.value.exit_code == 2
    models = [line for line in asked if line.startswith(b"GET /api/models/")]
    assert models == [b"GET /api/models/nope HTTP/1.1"] * 2  # once each: no library tried again


@pytest.mark.parametrize("there", [False, True])
def test_a_hub_that_cannot_be_reached(there: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody listens, or somebody who is silent: a sentence within the deadline."""
    with hub_that(None, monkeypatch) as asked:
        if not there:
            monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
        with pytest.raises(ConfigError, match=r"where model 'a/b' would be, cannot be reached \(.*no folder 'a/b'"):
            require_reachable("a/b")
    assert bool(asked) == there


def test_a_folder_and_a_model_that_is_here_need_no_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    require_reachable(str(save_toy_model(tmp_path / "toy")))
    fetched = tmp_path / "cache" / "models--a--b"
    (fetched / "refs").mkdir(parents=True)
    (fetched / "refs" / "main").write_text("c0ffee")
    (fetched / "snapshots" / "c0ffee").mkdir(parents=True)
    (fetched / "snapshots" / "c0ffee" / "config.json").write_text("{}")
    require_reachable("a/b")
