"""A line between two processes, on one machine or two: whole objects, tensors among them, over a socket.

Who calls shows a token first, which is compared before anything it says is read. Tensors arrive on the device of the
one who listens.
"""

from __future__ import annotations

import hmac
import io
import secrets
import socket
import struct
import threading
from contextlib import suppress
from typing import Any

import torch

TOKEN = 32  # bytes
CALLING_S = 30.0  # a caller has so long to show its token


class Channel:
    """One end of a line. Several threads may send; one receives. ``device``: where received tensors are put."""

    def __init__(self, line: socket.socket, device: torch.device) -> None:
        self._line = line
        self._device = device
        self._sending = threading.Lock()
        line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def send(self, thing: Any) -> None:
        """Any object that can be pickled, tensors at its leaves. Raises OSError when the other end is gone."""
        buffer = io.BytesIO()
        torch.save(thing, buffer)
        data = buffer.getbuffer()
        with self._sending:
            self._line.sendall(struct.pack("!Q", len(data)))
            self._line.sendall(data)

    def receive(self) -> Any:
        """What the other end sent next, whenever that is. Raises EOFError or OSError when it is gone."""
        (length,) = struct.unpack("!Q", _exactly(self._line, 8))
        data = io.BytesIO(_exactly(self._line, length))
        return torch.load(data, map_location=self._device, weights_only=False)

    def close(self) -> None:
        """Hang up; who receives at either end is told."""
        with suppress(OSError):
            self._line.shutdown(socket.SHUT_RDWR)
        self._line.close()


class Door:
    """Where others call. ``host``: the name or address they know this machine by."""

    def __init__(self, host: str) -> None:
        self.token = secrets.token_bytes(TOKEN)
        local = host in ("127.0.0.1", "localhost")
        self._socket = socket.create_server(("127.0.0.1" if local else "", 0))
        self.address = (host, int(self._socket.getsockname()[1]))

    def admit(self, timeout_s: float, device: torch.device) -> Channel | None:
        """The line to whoever calls with the token; None after ``timeout_s`` or for a stranger."""
        self._socket.settimeout(timeout_s)
        try:
            line, _ = self._socket.accept()
        except TimeoutError:
            return None
        line.settimeout(CALLING_S)
        try:
            known = hmac.compare_digest(_exactly(line, TOKEN), self.token)
        except (OSError, EOFError):
            known = False
        if not known:
            line.close()
            return None
        line.settimeout(None)
        return Channel(line, device)

    def close(self) -> None:
        """Nobody is let in any more."""
        self._socket.close()


def call(address: tuple[str, int], token: bytes, timeout_s: float, device: torch.device) -> Channel:
    """The line to a door. Raises OSError."""
    line = socket.create_connection(address, timeout_s)
    line.settimeout(None)
    line.sendall(token)
    return Channel(line, device)


def _exactly(line: socket.socket, length: int) -> bytearray:
    data = bytearray(length)
    view = memoryview(data)
    done = 0
    while done < length:
        count = line.recv_into(view[done:], min(length - done, 1 << 24))
        if not count:
            raise EOFError
        done += count
    return data
