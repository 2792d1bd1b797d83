"""A connection to Redis or Valkey for the request path: commands of one turn of the event loop leave with one write,
and their answers are handed on where they are read.

The redis library's own asyncio client takes several times the round trip for itself (docs/performance.md); its parsing
of URLs is used here, and hiredis for the protocol.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal, cast

import hiredis
import structlog
from redis.connection import parse_url

from aion_extproc.stores.state import StateError

log = structlog.get_logger(__name__)

_FIRST_PAUSE_S = 0.05
_LONGEST_PAUSE_S = 1.0
_CONNECT_SECONDS = 2.0
_SILENT_SECONDS = 1.0  # with a question open: the connection is dead
_MOST_OPEN = 50_000  # questions without an answer
# What a server says that cannot serve at the moment, or is not the one to ask any more: another one may be there.
_ELSEWHERE = ("READONLY", "LOADING", "MASTERDOWN", "NOAUTH")

Failed = Literal["timeout", "unreachable"]
Answer = Callable[[Any], None]  # told what Redis says, a hiredis.ReplyError too, or a Failed
_NOT_ENOUGH = object()


class _Question:
    __slots__ = ("asked_at", "then", "timer")

    def __init__(self, then: Answer, asked_at: float) -> None:
        self.then: Answer | None = then
        self.asked_at = asked_at
        self.timer: asyncio.TimerHandle | None = None

    def answer(self, value: Any) -> None:
        then, self.then = self.then, None
        if self.timer is not None:
            self.timer.cancel()
        if then is not None:
            then(value)

    def give_up(self) -> None:
        self.timer = None
        self.answer("timeout")


class _Connection(asyncio.Protocol):
    """From its beginning to its end; answers come in the order of the questions."""

    def __init__(self) -> None:
        self.lost = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._reader = hiredis.Reader(notEnoughData=_NOT_ENOUGH)
        self._open: deque[_Question] = deque()
        self._out: list[bytes] = []

    @property
    def full(self) -> bool:
        return len(self._open) >= _MOST_OPEN

    @property
    def silent(self) -> bool:
        return bool(self._open) and self._open[0].asked_at < self._loop.time() - _SILENT_SECONDS

    def ask(self, command: Sequence[str], then: Answer, seconds: float) -> None:
        question = _Question(then, self._loop.time())
        question.timer = self._loop.call_later(seconds, question.give_up)
        self._open.append(question)
        words: tuple[Any, ...] = tuple(command)
        self._out.append(hiredis.pack_command(words))
        if len(self._out) == 1:
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        out, self._out = self._out, []
        if self._transport is not None and out:
            self._transport.write(b"".join(out))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._reader.feed(data)
        while self._open:
            value = self._reader.gets()
            if value is _NOT_ENOUGH:
                return
            if isinstance(value, hiredis.ReplyError) and str(value).startswith(_ELSEWHERE):
                self.lost.set()
            self._open.popleft().answer(value)

    def connection_lost(self, error: Exception | None) -> None:
        self.lost.set()
        self.close()

    def close(self) -> None:
        """Whoever still waits has no answer."""
        if self._transport is not None:
            self._transport.abort()
            self._transport = None
        waiting, self._open = self._open, deque()
        for question in waiting:
            question.answer("unreachable")


class RedisLink:
    """Connects when `open` is called in a running loop, and again for ever when the connection is lost. `prepare`: the
    commands that each new connection begins with. StateError: the URL cannot be used."""

    def __init__(self, url: str, timeout: float, prepare: Sequence[tuple[str, ...]] = ()) -> None:
        try:
            options = parse_url(url)  # type: ignore[no-untyped-call]
            self._db = int(options.get("db", 0))
        except (ValueError, TypeError):
            raise StateError("state.redis_url cannot be read: redis://[[user]:password@]host[:port][/db]") from None
        self._host, self._port = str(options.get("host", "localhost")), int(options.get("port", 6379))
        self._path = options.get("path")
        self._tls = ssl.create_default_context() if url.startswith("rediss://") else None
        self._prepare: list[tuple[str, ...]] = []
        if options.get("password"):
            user = (options["username"],) if options.get("username") else ()
            self._prepare.append(("AUTH", *user, options["password"]))
        if self._db:
            self._prepare.append(("SELECT", str(self._db)))
        self._prepare += prepare
        self._timeout = timeout
        self._connection: _Connection | None = None  # ready for questions
        self._connected = asyncio.Event()
        self._keeping: asyncio.Task[None] | None = None

    @property
    def name(self) -> str:
        """Where it goes, without its secrets."""
        return self._path or f"{self._host}:{self._port}/{self._db}"

    async def connected(self, seconds: float) -> bool:
        """Whether it is, waited for."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._connected.wait(), seconds)
        return self._connected.is_set()

    def open(self) -> None:
        if self._keeping is None:
            self._keeping = asyncio.get_running_loop().create_task(self._keep())

    def ask(self, command: Sequence[str], then: Answer, timeout: float | None = None) -> None:
        """`then` is told the answer, or why there is none, within `timeout` seconds (None: the link's own)."""
        connection = self._connection
        if connection is None or connection.full:
            then("unreachable")
        else:
            connection.ask(command, then, self._timeout if timeout is None else timeout)

    async def request(self, *command: str, within: float = 5.0) -> Any:
        """The answer to one command, to be awaited; a Failed where there is none. Raises hiredis.ReplyError."""
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.ask(command, partial(_give, answer), within)
        value = await answer
        if isinstance(value, hiredis.ReplyError):
            raise value
        return value

    async def _keep(self) -> None:
        """Connect, stay, connect again."""
        pause = _FIRST_PAUSE_S
        while True:
            began = asyncio.get_running_loop().time()
            try:
                connection = await asyncio.wait_for(self._connect(), _CONNECT_SECONDS)
            except (OSError, TimeoutError, hiredis.HiredisError, StateError) as error:
                if pause == _LONGEST_PAUSE_S:
                    log.warning("redis_unreachable", where=self.name, reason=str(error) or type(error).__name__)
            else:
                self._connection = connection
                self._connected.set()
                log.info("redis_connected", where=self.name)
                try:
                    await self._stay(connection)
                finally:
                    self._connection = None
                    self._connected.clear()
                    connection.close()
                if asyncio.get_running_loop().time() - began > _LONGEST_PAUSE_S:
                    pause = _FIRST_PAUSE_S
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_S)

    async def _connect(self) -> _Connection:
        loop = asyncio.get_running_loop()
        if self._path:
            _, connection = await loop.create_unix_connection(_Connection, self._path)
        else:
            _, connection = await loop.create_connection(_Connection, self._host, self._port, ssl=self._tls)
        try:
            for command in self._prepare:
                answer: asyncio.Future[Any] = loop.create_future()
                connection.ask(command, partial(_give, answer), _CONNECT_SECONDS)
                value = await answer
                if isinstance(value, hiredis.ReplyError) or value in ("timeout", "unreachable"):
                    # An error may repeat what it was sent, the password among it.
                    what = str(value).partition(" ")[0] if isinstance(value, hiredis.ReplyError) else value
                    raise StateError(f"{command[0]}: {what}")
        except BaseException:
            connection.close()
            raise
        return connection

    async def _stay(self, connection: _Connection) -> None:
        """Until the connection is lost, or says nothing to a question."""
        while not connection.lost.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(connection.lost.wait(), _SILENT_SECONDS / 2)
            if connection.silent:
                log.warning("redis_silent", where=self.name)
                return

    def close(self) -> None:
        if self._keeping is not None:
            self._keeping.cancel()
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _give(answer: asyncio.Future[Any], value: Any) -> None:
    if not answer.done():
        answer.set_result(value)
