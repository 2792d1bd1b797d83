"""News among the processes of one gateway: what one has learned of providers and sessions, the others know soon.

Each process has a datagram socket `<name>.bus` beside its own, and its peers are the others in that directory. Nothing
is acknowledged, and a peer that does not read loses news: whoever tells something must be able to live with that. News
of one process reach a peer in the order in which they were published. Who joins says hello, and every peer tells it
what it knows.

A message is {"version", "from", "news": [[kind, payload], …]} in JSON. What another version of this software says, or
nobody can read, is passed over.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import orjson
import structlog

from aion_extproc import __version__

log = structlog.get_logger(__name__)

BATCH_SECONDS = 0.25  # news that are not urgent wait for company so long
RETRY_SECONDS = 0.02  # a peer's queue is full: 10 datagrams by Linux's default, and it reads once a turn of its loop
LOOK_SECONDS = 1.0  # the list of peers is no older
DATAGRAM_BYTES = 16 * 1024
BACKLOG_DATAGRAMS = 64  # kept for a peer whose queue is full; then the oldest are lost
_READ_AT_ONCE = 64  # datagrams, before requests get their turn
_HELLO, _WELCOME = "hello", "welcome"

Payload = dict[str, Any]
Handler = Callable[[Payload], None]


class _Peer:
    """A connected socket of its own, so that one peer that does not read cannot use up the buffer of the others."""

    def __init__(self, path: Path) -> None:
        self.waiting: deque[bytes] = deque(maxlen=BACKLOG_DATAGRAMS)
        self.inode = path.stat().st_ino
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            self._socket.setblocking(False)
            self._socket.connect(str(path))
        except OSError:
            self._socket.close()
            raise

    def send(self) -> bool:
        """What waits, as far as it goes. False: nobody is there any more."""
        while self.waiting:
            try:
                self._socket.send(self.waiting[0])
            except (BlockingIOError, InterruptedError):
                return True
            except OSError:
                return False
            self.waiting.popleft()
        return True

    def close(self) -> None:
        self._socket.close()


class Bus:
    """One process's end of it, at `path`. Everything is called from one thread, that of the event loop."""

    def __init__(self, path: Path, version: str = __version__) -> None:
        self._path = path
        self._version = version
        head = orjson.dumps({"version": version, "from": path.name})
        self._head = head[:-1] + b',"news":['
        self._handlers: dict[str, Handler] = {}
        self._snapshots: dict[str, Callable[[], Iterable[Payload]]] = {}
        self._socket: socket.socket | None = None
        self._inode = 0
        self._peers: dict[str, _Peer] = {}
        self._looked_at = float("-inf")
        self._outbox: list[bytes] = []
        self._flush_handle: asyncio.Handle | None = None
        self._flush_is_urgent = False
        self._retry_handle: asyncio.Handle | None = None
        self._complained: set[str] = set()

    def subscribe(
        self, kind: str, handler: Handler, snapshot: Callable[[], Iterable[Payload]] | None = None
    ) -> None:
        """`handler` gets each payload of that kind that a peer publishes. One that raises is passed over.

        `snapshot`: what to tell a peer that joins, in pieces of at most DATAGRAM_BYTES.
        """
        self._handlers[kind] = handler
        if snapshot is not None:
            self._snapshots[kind] = snapshot

    def open(self) -> None:
        """Join, in the running loop. OSError: the socket cannot be bound."""
        self._path.unlink(missing_ok=True)  # a killed predecessor's
        own = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        own.setblocking(False)
        own.bind(str(self._path))
        self._inode = self._path.stat().st_ino
        self._socket = own
        asyncio.get_running_loop().add_reader(own.fileno(), self._receive)
        self.publish(_HELLO, {}, urgent=True)

    def close(self) -> None:
        """Say what is still to be said, and leave. Safe to call twice."""
        if self._socket is None:
            return
        self._flush()
        for handle in (self._flush_handle, self._retry_handle):
            if handle is not None:
                handle.cancel()
        asyncio.get_running_loop().remove_reader(self._socket.fileno())
        self._socket.close()
        self._socket = None
        for peer in self._peers.values():
            peer.close()
        self._peers.clear()
        with contextlib.suppress(OSError):
            if self._path.stat().st_ino == self._inode:  # a successor may have taken the name
                self._path.unlink()

    def publish(self, kind: str, payload: Payload, urgent: bool = False) -> None:
        """Tell all peers: within BATCH_SECONDS, or in this turn of the loop. Nothing happens before `open`.

        TypeError: the payload cannot be written as JSON. One that is larger than a datagram is not sent.
        """
        if self._socket is None:
            return
        self._outbox += self._encoded(kind, payload)
        if self._flush_handle is not None:
            if not urgent or self._flush_is_urgent:
                return
            self._flush_handle.cancel()
        loop = asyncio.get_running_loop()
        self._flush_is_urgent = urgent
        self._flush_handle = loop.call_soon(self._flush) if urgent else loop.call_later(BATCH_SECONDS, self._flush)

    def _encoded(self, kind: str, payload: Payload) -> list[bytes]:
        encoded = orjson.dumps([kind, payload])
        if len(self._head) + len(encoded) + 2 <= DATAGRAM_BYTES:
            return [encoded]
        self._complain("too_large", kind, bytes=len(encoded))
        return []

    def _packed(self, news: Iterable[bytes]) -> list[bytes]:
        """As few datagrams as hold them."""
        datagrams: list[bytes] = []
        part: list[bytes] = []
        size = len(self._head) + 1
        for one in news:
            if part and size + len(one) + 1 > DATAGRAM_BYTES:
                datagrams.append(self._head + b",".join(part) + b"]}")
                part, size = [], len(self._head) + 1
            part.append(one)
            size += len(one) + 1
        if part:
            datagrams.append(self._head + b",".join(part) + b"]}")
        return datagrams

    def _flush(self) -> None:
        self._flush_handle, self._flush_is_urgent = None, False
        datagrams, self._outbox = self._packed(self._outbox), []
        if not datagrams:
            return
        if time.monotonic() - self._looked_at > LOOK_SECONDS:
            self._look()
        for peer in self._peers.values():
            peer.waiting.extend(datagrams)
        self._send()

    def _send(self) -> None:
        self._retry_handle = None
        for name, peer in list(self._peers.items()):
            if not peer.send():
                self._drop(name)
        if any(peer.waiting for peer in self._peers.values()):
            self._retry_later()

    def _retry_later(self) -> None:
        if self._retry_handle is None:
            self._retry_handle = asyncio.get_running_loop().call_later(RETRY_SECONDS, self._send)

    def _look(self) -> None:
        """Find peers that are new; those that are gone show when they are sent to."""
        self._looked_at = time.monotonic()
        with contextlib.suppress(OSError):
            for entry in os.scandir(self._path.parent):
                if entry.name.endswith(self._path.suffix) and entry.name not in self._peers:
                    self._connect(entry.name)

    def _connect(self, name: str) -> _Peer | None:
        """A new connection; None: nobody is there."""
        self._drop(name)
        if name == self._path.name:
            return None
        try:
            peer = _Peer(self._path.with_name(name))
        except (OSError, ValueError):  # ValueError: that is no name of a file
            return None
        self._peers[name] = peer
        return peer

    def _drop(self, name: str) -> None:
        peer = self._peers.pop(name, None)
        if peer is not None:
            peer.close()

    def _receive(self) -> None:
        for _ in range(_READ_AT_ONCE):
            if self._socket is None:
                return
            try:
                data = self._socket.recv(2 * DATAGRAM_BYTES)
            except OSError:  # mostly: there is nothing more
                return
            self._take(data)

    def _take(self, data: bytes) -> None:
        try:
            message = orjson.loads(data)
            version, sender, news = message["version"], str(message["from"]), [(str(k), p) for k, p in message["news"]]
        except (ValueError, KeyError, TypeError):
            self._complain("unreadable", "")
            return
        if version != self._version:
            self._complain("other_version", str(version)[:32])
            return
        for kind, payload in news:
            if kind == _HELLO:
                self._welcome(sender)
            elif kind in self._handlers:
                try:
                    self._handlers[kind](payload)
                except Exception as error:  # whatever is wrong with it, requests go on
                    self._complain("not_understood", kind, error=type(error).__name__)

    def _welcome(self, name: str) -> None:
        """A peer has joined, maybe in the place of another: it is told what is known here."""
        known = self._encoded(_WELCOME, {})
        for kind, snapshot in self._snapshots.items():
            for payload in snapshot():
                known += self._encoded(kind, payload)
        told = self._packed(known)
        self._flush()  # to those who were here; the newcomer has it in what follows
        peer = self._connected(name)
        if peer is not None:
            peer.waiting.extend(told)
            if not peer.send() and (successor := self._connect(name)) is not None:
                successor.waiting.extend(told)
            self._send()

    def _connected(self, name: str) -> _Peer | None:
        """The connection that is there, unless it is to one that gave its name away and lives on."""
        peer = self._peers.get(name)
        with contextlib.suppress(OSError, ValueError):
            if peer is not None and peer.inode == self._path.with_name(name).stat().st_ino:
                return peer
        return self._connect(name)

    def _complain(self, what: str, kind: str, **more: Any) -> None:
        """Once of each sort: the next thousand would say no more."""
        if (sort := f"{what} {kind}") not in self._complained and len(self._complained) < 100:
            self._complained.add(sort)
            log.warning("bus_message_dropped", reason=what, kind=kind, **more)
