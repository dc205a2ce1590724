"""Retrieval from a server that speaks Search-R1's JSON: ``POST /retrieve``.

The request is ``{"queries": [..], "topk": 3, "return_scores": true}``, the reply ``{"result": [[{"document":
{"id", "contents"}, "score"}, ..], ..]}`` (or plain lists of documents). Failures that may pass (no connection, a
time-out, 429 and 5xx) are tried again with growing pauses; then one EnvError says what is wrong.
"""

from __future__ import annotations

import http.client
import json
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agentrl.errors import EnvError
from agentrl.retrieval.base import Document, Hit
from agentrl.watchdog import beat

PASSING = {408, 429, 500, 502, 503, 504}
PAUSE_S = 0.25  # before the second try; doubled for each one after
CHUNK = 2**16  # bytes read at once
MAX_BYTES = 64 * 2**20  # of a reply


@dataclass(frozen=True)
class Remote:
    """A retrieval server. ``url`` with or without ``/retrieve``; ``timeout_s`` per try; ``retries`` after the first."""

    url: str
    timeout_s: float = 10.0
    retries: int = 3

    @property
    def endpoint(self) -> str:
        base = self.url.rstrip("/")
        return base if base.endswith("/retrieve") else f"{base}/retrieve"

    @property
    def fingerprint(self) -> Mapping[str, Any]:
        """Only the address is known: what stands behind it is the user's to keep fixed."""
        return {"retriever": "http", "url": self.url}

    def search(self, queries: Sequence[str], k: int) -> list[tuple[Hit, ...]]:
        """The best ``k`` documents of each query, in one request. Raises EnvError."""
        if not queries:
            return []
        body = json.dumps({"queries": list(queries), "topk": k, "return_scores": True}).encode("utf-8", "replace")
        reply = self._ask(body)
        result = reply.get("result") if isinstance(reply, dict) else None
        if not isinstance(result, list) or len(result) != len(queries):
            raise self._strange(f"'result' is no list of {len(queries)} lists")
        try:
            return [tuple(_hit(entry) for entry in hits[:k]) for hits in result]
        except (TypeError, KeyError, ValueError, AttributeError):
            raise self._strange("an entry holds no document with contents") from None

    def _ask(self, body: bytes) -> Any:
        why = ""
        for attempt in range(self.retries + 1):
            if attempt:
                time.sleep(PAUSE_S * 2 ** (attempt - 1))
            try:
                request = urllib.request.Request(self.endpoint, body, {"Content-Type": "application/json"})
                beat("retriever", "asking", self.endpoint)
                with urllib.request.urlopen(request, timeout=self.timeout_s) as reply:
                    return json.loads(self._read(reply))
            except urllib.error.HTTPError as error:
                why = f"it answered {error.code}: {error.read(300).decode('utf-8', 'replace').strip()}"
                if error.code not in PASSING:
                    break
            except (OSError, http.client.HTTPException) as error:
                why = str(getattr(error, "reason", error)) or type(error).__name__
            except ValueError as error:
                raise self._strange(f"no JSON ({error})") from None
        raise EnvError(
            f"retriever {self.endpoint}: no answer after {attempt + 1} tries of at most {self.timeout_s:g} s ({why}); "
            "is the server up? `agentrl serve retriever corpus=FILE` starts one"
        )

    def _read(self, reply: Any) -> bytes:
        """The reply, in time as a whole: the socket's own limit lets a slow drip go on for ever. Raises OSError."""
        deadline = time.monotonic() + self.timeout_s
        parts: list[bytes] = []
        while part := reply.read1(CHUNK):
            parts.append(part)
            if sum(map(len, parts)) > MAX_BYTES:
                raise OSError(f"its reply has more than {MAX_BYTES} bytes")
            if time.monotonic() > deadline:
                raise OSError("its reply did not end in time")
        return b"".join(parts)

    def _strange(self, what: str) -> EnvError:
        return EnvError(f"retriever {self.endpoint}: its reply is not in Search-R1's form ({what}); is it a retriever?")


def _hit(entry: Any) -> Hit:
    document, score = (entry["document"], float(entry["score"])) if "document" in entry else (entry, 0.0)
    contents = document["contents"]
    if not isinstance(contents, str):
        raise TypeError
    return Hit(Document(str(document.get("id", "")), contents), score)
