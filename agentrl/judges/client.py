"""Chat completions of any OpenAI-compatible endpoint: deadline, retries, a limit of calls at once, a cache on disk.

The key is read from the environment when a request is made. It goes into one header and nowhere else: not into configs,
caches, errors or ``repr``.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import secrets
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import httpx

from agentrl.errors import ConfigError, JudgeError
from agentrl.types import Messages
from agentrl.watchdog import beat, patience

RETRIED = {408, 409, 425, 429}  # and every 5xx: the next try may work
LONGEST_WAIT_S = 60.0  # between two tries, whatever Retry-After says
MOST_BYTES = 4 * 2**20  # of one response
SHOWN = 200  # characters of a server's words in an error

Accept = Callable[[str], bool]


class _TryAgain(Exception):
    """A failure that another try may mend; ``wait_s``: what the server asked for, 0 if nothing."""

    def __init__(self, why: str, wait_s: float = 0.0) -> None:
        super().__init__(why)
        self.wait_s = wait_s


@dataclass(frozen=True)
class ChatClient:
    """One model behind one endpoint.

    ``base_url`` up to and without ``/chat/completions``; ``api_key_env``: name of the environment variable with the
    key, empty for none; ``timeout_s``: of one try, from sending to the last byte; ``retries``: tries after the first;
    ``backoff_s``: about the wait before the second try, doubled from then on; ``concurrent``: calls under way at once
    in this process; ``cache``: folder of remembered replies, empty for none. ``called``: the
    config group that names it, for errors.
    """

    base_url: str
    model: str
    api_key_env: str = ""
    temperature: float = 0.0
    max_tokens: int = 1024
    timeout_s: float = 60.0
    retries: int = 4
    backoff_s: float = 1.0
    concurrent: int = 8
    cache: str = ""

    called: ClassVar[str] = "judge"

    def __post_init__(self) -> None:
        if not self.base_url.startswith(("http://", "https://")):
            raise ConfigError(
                f"{self.called}.base_url is {self.base_url!r}; expected a URL such as http://localhost:8000/v1"
            )
        if "@" in self.base_url.split("://", 1)[1].split("/", 1)[0]:
            raise ConfigError(
                f"{self.called}.base_url holds a user or a password; give the key by {self.called}.api_key_env instead"
            )
        if not self.model:
            raise ConfigError(f"{self.called}.model is empty; give the name under which the endpoint serves its model")
        least = {
            "temperature": 0.0,
            "max_tokens": 1,
            "timeout_s": 0.01,
            "retries": 0,
            "backoff_s": 0.0,
            "concurrent": 1,
        }
        for name, low in least.items():
            if not getattr(self, name) >= low:
                raise ConfigError(f"{self.called}.{name} is {getattr(self, name)}; expected at least {low:g}")

    def __getstate__(self) -> dict[str, Any]:
        """Only the fields travel: another process opens its own connections."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def complete(self, messages: Messages, *, name: str = "", seed: int = 0, accept: Accept | None = None) -> str:
        """The model's reply to ``messages``.

        ``name`` identifies the request in the cache (default: the messages; give it where they hold something random),
        ``seed`` tells several samples of one request apart. A reply that ``accept`` refuses is asked for again like a
        failed call, and is never cached. Raises JudgeError when no try brought an accepted reply.
        """
        wanted = name or json.dumps([[m.role, m.content] for m in messages])
        key = json.dumps([self.model, self.temperature, self.max_tokens, seed, wanted])
        place = self._place(key)
        if place is not None and (found := _remembered(place, key)) is not None and (accept is None or accept(found)):
            return found
        body = {
            "model": self.model,
            "messages": [{"role": m.role, "content": m.content} for m in messages],
            "temperature": self.temperature,
            "max_tokens": self.max_tokens,
            "seed": seed,
        }
        with patience(self.called, f"asking {self.model} at {self.base_url}", self.timeout_s):
            reply = self._persist(body, accept)
        if place is not None:
            try:
                _remember(place, key, reply)
            except OSError as error:
                raise self._error(
                    f"{self.called}.cache={self.cache}: {error.strerror}; mend that, or give another folder"
                ) from None
        return reply

    def nonce(self, name: str, seed: int) -> str:
        """Drawn anew for each request: an endpoint's replies are not reproducible anyway."""
        return secrets.token_hex(8)

    def close(self) -> None:
        """Close the connections."""
        if "_http" in self.__dict__:
            self._http.close()
            del self.__dict__["_http"]

    @cached_property
    def _slots(self) -> threading.BoundedSemaphore:
        return threading.BoundedSemaphore(self.concurrent)

    @cached_property
    def _http(self) -> httpx.Client:
        return httpx.Client(timeout=self.timeout_s, follow_redirects=False)

    def _place(self, key: str) -> Path | None:
        if not self.cache:
            return None
        digest = hashlib.sha256(key.encode()).hexdigest()
        return Path(self.cache).expanduser() / digest[:2] / f"{digest}.json"

    def _persist(self, body: Mapping[str, Any], accept: Accept | None) -> str:
        """Try until a reply is accepted, waiting longer each time, at random, so that many callers spread out."""
        why = ""
        for number in range(self.retries + 1):
            try:
                with self._slots:
                    reply = self._ask(body)
                if accept is None or accept(reply):
                    return reply
                raise _TryAgain(f"the reply {reply[:SHOWN]!r} is not what was asked for")
            except _TryAgain as error:
                why = str(error)
                if number < self.retries:
                    wait = self.backoff_s * 2**number * random.uniform(0.5, 1.0)
                    time.sleep(min(max(wait, error.wait_s), LONGEST_WAIT_S))
                    if error.wait_s:
                        beat(self.called, "asking again, as late as the server wished:", self.base_url)
        raise self._error(f"{why} (after {self.retries + 1} tries); see that the endpoint serves {self.called}.model")

    def _ask(self, body: Mapping[str, Any]) -> str:
        """One try. Raises _TryAgain for what may pass, JudgeError for what will not."""
        try:
            status, head, content = self._post(body)
            beat(self.called, f"read status {status} of", self.base_url)
        except httpx.HTTPError as error:
            raise _TryAgain(self._safe(f"{type(error).__name__}: {error}")) from None
        except httpx.InvalidURL as error:
            raise self._error(self._safe(str(error))) from None
        if status in RETRIED or status >= 500:
            raise _TryAgain(f"status {status}: {self._safe(content)}", _seconds(head.get("retry-after", "")))
        if status != 200:
            hint = (
                f"; check the key in ${self.api_key_env or self.called + '.api_key_env'}"
                if status in (401, 403)
                else ""
            )
            raise self._error(f"status {status}: {self._safe(content)}{hint}")
        try:
            reply = json.loads(content)["choices"][0]["message"]["content"]
        except (ValueError, LookupError, TypeError, RecursionError):
            raise _TryAgain(f"the response is no chat completion: {self._safe(content)}") from None
        if not isinstance(reply, str):
            raise _TryAgain("the response holds no text")
        return reply

    def _post(self, body: Mapping[str, Any]) -> tuple[int, httpx.Headers, str]:
        """Send, and read to the end within the deadline (a timeout of the library alone lets a slow drip go on)."""
        deadline = time.monotonic() + self.timeout_s
        parts: list[bytes] = []
        size = 0
        url = self.base_url.rstrip("/") + "/chat/completions"
        with self._http.stream("POST", url, json=body, headers=self._headers()) as response:
            for part in response.iter_bytes():
                parts.append(part)
                size += len(part)
                if size > MOST_BYTES:
                    raise _TryAgain(f"the response has more than {MOST_BYTES} bytes")
                if time.monotonic() > deadline:
                    raise _TryAgain(f"no complete response within {self.called}.timeout_s={self.timeout_s:g}")
        return response.status_code, response.headers, b"".join(parts).decode(errors="replace")

    def _headers(self) -> dict[str, str]:
        key = self._key()
        return {"Authorization": f"Bearer {key}"} if key else {}

    def _key(self) -> str:
        if not self.api_key_env:
            return ""
        key = os.environ.get(self.api_key_env, "").strip()
        if not key:
            raise self._error(
                f"${self.api_key_env} is not set; export it, or give {self.called}.api_key_env='' for no key"
            )
        if not key.isascii() or not key.isprintable():
            raise self._error(f"${self.api_key_env} holds characters that no key has; export it again")
        return key

    def _safe(self, text: str) -> str:
        """A server's words, short, on one line, without the key (some servers echo it)."""
        key = os.environ.get(self.api_key_env, "").strip() if self.api_key_env else ""
        text = text.replace(key, "***") if key else text
        return "".join(char for char in " ".join(text.split()) if char.isprintable())[:SHOWN]

    def _error(self, why: str) -> JudgeError:
        return JudgeError(f"{self.called} {self.model} at {self.base_url}: {why}")


def _seconds(text: str) -> float:
    """Retry-After as seconds; 0 where it is a date or nothing."""
    try:
        return max(float(text), 0.0)
    except ValueError:
        return 0.0


def _remembered(place: Path, key: str) -> str | None:
    """A cached reply; a damaged entry counts as none."""
    try:
        entry = json.loads(place.read_text(encoding="utf-8"))
        return str(entry["reply"]) if entry["request"] == key else None
    except (OSError, ValueError, LookupError, TypeError):
        return None


def _remember(place: Path, key: str, reply: str) -> None:
    """Write beside its place, then rename: a reader never sees half an entry."""
    place.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=place.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump({"request": key, "reply": reply}, file)
        os.replace(name, place)
    finally:
        Path(name).unlink(missing_ok=True)
