"""``agentrl serve retriever``: a corpus behind Search-R1's JSON, for environments on other machines and other programs.

``POST /retrieve`` with ``{"queries": ["..", ..], "topk": 3, "return_scores": true}`` gives ``{"result": [[{"document":
{"id", "contents"}, "score"}, ..], ..]}``, without scores lists of documents. ``GET /`` says what is served. A bad
request gets status 400 and a sentence.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from agentrl.config import build
from agentrl.encyclopedia import generate
from agentrl.errors import ConfigError
from agentrl.interrupt import signals_raise
from agentrl.retrieval import Document, Hit, Store

BUNDLED = "bundled"
MAX_BYTES = 16 * 2**20  # of a request
MAX_K = 1000


@dataclass(frozen=True)
class RetrievalServer:
    """The schema of the ``server`` node of conf/serve_retriever.yaml.

    ``corpus``: ``bundled`` (the articles of the encyclopedia of seed 0 with 2,000 entities) or a file (forms:
    ``retrieval.corpus``), indexed once under ``index``. ``top_k``: passages where a request names no number. ``port`` 0
    takes a free one.
    """

    corpus: str
    host: str
    port: int
    index: str
    top_k: int
    max_queries: int

    def __post_init__(self) -> None:
        for name, low, high in (("port", 0, 65535), ("top_k", 1, MAX_K), ("max_queries", 1, 1_000_000)):
            if not low <= getattr(self, name) <= high:
                raise ConfigError(f"server.{name}: got {getattr(self, name)}, expected a number from {low} to {high}")

    @property
    def told(self) -> str:
        """The corpus, for people, before it is read."""
        if self.corpus != BUNDLED:
            return f"{self.corpus}, indexed once under {self.index}"
        return "bundled, the articles of the generated encyclopedia; corpus=FILE serves your own"

    def store(self) -> Store:
        """The corpus, indexed. Raises DataError when it cannot be read."""
        if self.corpus != BUNDLED:
            return Store.of_file(Path(self.corpus), Path(self.index))
        return Store.build([Document.of(each.id, each.title, each.text) for each in generate().passages])

    def open(self, store: Store) -> ThreadingHTTPServer:
        """The listening server. Raises ConfigError when the address cannot be had."""

        class Bound(_Handler):
            pass

        Bound.store, Bound.settings = store, self
        try:
            return _Server((self.host, self.port), Bound)
        except OSError as error:
            raise ConfigError(
                f"port={self.port}: {self.host}:{self.port} cannot be opened ({error.strerror}); choose another "
                "port or server.host"
            ) from None


def serve_retriever(cfg: Any) -> dict[str, Any]:
    """``agentrl serve retriever``: serve until Ctrl-C or SIGTERM; gives what was served."""
    settings: RetrievalServer = build(cfg.server)
    begin = time.perf_counter()
    print(f"corpus: {settings.told}", flush=True)
    store = settings.store()
    with settings.open(store) as server, signals_raise():
        host, port = server.server_address[:2]
        print(
            f"serving {len(store.documents)} passages at http://{host!s}:{port}/retrieve "
            f"(ready after {time.perf_counter() - begin:.1f} s; Ctrl-C ends)",
            flush=True,
        )
        with suppress(KeyboardInterrupt):
            server.serve_forever()
    print(f"stopped after {store.asked} queries, {store.found_cached} of them remembered", flush=True)
    return {"queries": store.asked, "cached": store.found_cached}


class BadRequest(Exception):
    """What is wrong with a request, in a sentence."""


def read_request(body: bytes, settings: RetrievalServer) -> tuple[list[str], int, bool]:
    """(queries, k, whether scores are wanted) of a request's body. Raises BadRequest."""
    try:
        request = json.loads(body)
    except (ValueError, RecursionError):
        raise BadRequest('the body is not JSON; send {"queries": ["..."], "topk": 3}') from None
    if not isinstance(request, Mapping):
        raise BadRequest('the body is not a JSON object; send {"queries": ["..."], "topk": 3}')
    queries = request.get("queries")
    if not isinstance(queries, list) or not all(isinstance(query, str) for query in queries):
        raise BadRequest("queries is missing or no list of texts")
    if len(queries) > settings.max_queries:
        raise BadRequest(f"{len(queries)} queries in one request; at most {settings.max_queries} are answered")
    k = settings.top_k if request.get("topk") is None else request["topk"]
    if isinstance(k, bool) or not isinstance(k, int) or not 1 <= k <= MAX_K:
        raise BadRequest(f"topk is {str(k)[:40]}; expected a whole number from 1 to {MAX_K}")
    scores = request.get("return_scores", False)
    if not isinstance(scores, bool):
        raise BadRequest("return_scores is neither true nor false")
    return queries, k, scores


def reply_of(hits: tuple[Hit, ...], scores: bool) -> list[Any]:
    """The answer to one query as it is sent."""
    documents = [{"id": hit.document.id, "contents": hit.document.contents} for hit in hits]
    if not scores:
        return documents
    return [{"document": document, "score": hit.score} for document, hit in zip(documents, hits, strict=True)]


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no news; anything else is one line."""
        error = sys.exception()
        if not isinstance(error, ConnectionError | TimeoutError):
            print(f"agentrl: request from {client_address[0]} failed: {error!r}", file=sys.stderr, flush=True)


class _Handler(BaseHTTPRequestHandler):
    store: Store
    settings: RetrievalServer
    protocol_version = "HTTP/1.1"
    timeout = 60  # seconds that an idle connection is kept

    def do_GET(self) -> None:
        if self.path not in ("/", "/health"):
            self._send(404, {"detail": f"{self.path[:80]}: nothing here; POST /retrieve or GET /"})
            return
        self._send(200, {**self.store.fingerprint, "queries": self.store.asked})

    def do_POST(self) -> None:
        if self.path.rstrip("/") != "/retrieve":
            self.close_connection = True  # its body was not read
            self._send(404, {"detail": f"{self.path[:80]}: nothing here; POST /retrieve"})
            return
        try:
            queries, k, scores = read_request(self._body(), self.settings)
        except BadRequest as error:
            self.close_connection = True
            self._send(400, {"detail": str(error)})
            return
        self._send(200, {"result": [reply_of(hits, scores) for hits in self.store.search(queries, k)]})

    def _body(self) -> bytes:
        length = self.headers.get("Content-Length", "")
        if not length.isdigit():
            raise BadRequest("no Content-Length; send the body in one piece")
        if int(length) > MAX_BYTES:
            raise BadRequest(f"the body has {length} bytes; at most {MAX_BYTES} are read")
        return self.rfile.read(int(length))

    def _send(self, status: int, content: Mapping[str, Any]) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Requests are counted, not printed."""
