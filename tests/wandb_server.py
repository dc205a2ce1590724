"""A stand-in for the part of W&B's server that sweeps and their agents ask: GraphQL over HTTP, on a free port."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from typing import Any

PROJECT = {"id": "p1", "name": "agentrl", "entity": {"id": "e1", "name": "somebody"}}
VIEWER = {
    "id": "u1", "username": "somebody", "email": "", "admin": False, "name": "somebody", "entity": "somebody",
    "flags": "{}", "deletedAt": None, "teams": {"edges": []}, "apiKeys": {"edges": []}, "accountType": "member",
}  # fmt: skip


class Sweeps:
    """Its one sweep: the config that was sent, the runs that are still to be given out, what agents said of them."""

    def __init__(self, runs: list[dict[str, Any]]) -> None:
        self.waiting = list(runs)
        self.config = ""
        self.given: list[str] = []
        self.asked: list[str] = []
        self.lock = Lock()

    def answer(self, query: str, variables: dict[str, Any]) -> dict[str, Any]:
        with self.lock:
            self.asked.append(" ".join(query.split())[:80])
            if "upsertSweep" in query:
                self.config = variables["config"]
                return {"upsertSweep": {"sweep": {"name": "s1", "project": PROJECT}, "configValidationWarnings": []}}
            if "createAgent" in query:
                return {"createAgent": {"agent": {"id": f"agent{len(self.asked)}"}}}
            if "agentHeartbeat" in query:
                commands = self._commands(json.loads(variables["runState"] or "{}"))
                return {"agentHeartbeat": {"agent": {"id": variables["id"]}, "commands": json.dumps(commands)}}
            if "sweep(" in query:
                sweep = {"id": "s1", "name": "s1", "state": "RUNNING", "config": self.config, "runs": {"edges": []}}
                return {"project": {"sweep": sweep}}
            return {"viewer": VIEWER, "serverInfo": {"features": [], "cliVersionInfo": {}}}

    def _commands(self, running: dict[str, Any]) -> list[dict[str, Any]]:
        if running:
            return []
        if not self.waiting:
            return [{"type": "exit"}]
        args = {word: {"value": value} for word, value in self.waiting.pop(0).items()}
        self.given.append(f"run{len(self.given)}")
        return [{"type": "run", "run_id": self.given[-1], "program": "", "args": args}]


@contextmanager
def serving(runs: list[dict[str, Any]]) -> Iterator[tuple[str, Sweeps]]:
    """Inside, the address of a server that has these runs to give."""
    sweeps = Sweeps(runs)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if not self.path.startswith("/graphql"):  # usage statistics
                self._say({})
                return
            asked = json.loads(body)
            self._say({"data": sweeps.answer(asked["query"], asked.get("variables") or {})})

        def do_GET(self) -> None:
            self._say({})

        def _say(self, content: dict[str, Any]) -> None:
            text = json.dumps(content).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", sweeps
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
