"""gRPC's server side on a Unix socket.

grpc.aio wakes a thread and the event loop for every message it receives and for every one it sends, which costs more
than all that we do with the message. Here a message is handled where it is read, and what is answered to the bytes of
one read leaves with one write (docs/performance.md has the figures).
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import cast

import structlog

from aion_extproc.extproc.grpc_call import Handler
from aion_extproc.extproc.grpc_connection import Connection
from aion_extproc.extproc.http2 import ProtocolError

log = structlog.get_logger(__name__)

_LOOK_SECONDS = 0.01
_ON_ITS_WAY_SECONDS = 0.1  # what Envoy has sent before it has read that we leave


class _Transport(asyncio.Protocol):
    """A connection on a socket. What is written while bytes are being read leaves in one piece."""

    def __init__(self, server: GrpcServer) -> None:
        self._server = server
        self._out: list[bytes] = []
        self._reading = False
        self._transport: asyncio.Transport | None = None
        self.connection = Connection(server.handlers, self._write, server.message_limit)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's class derives from neither
        self._server.transports.add(self)
        self.connection.begin()

    def data_received(self, data: bytes) -> None:
        assert self._transport is not None
        self._reading, failed = True, False
        try:
            self.connection.feed(data)
        except ProtocolError as error:
            log.error("grpc_connection_failed", reason=str(error))
            self.connection.fail(error)
            failed = True
        finally:
            self._reading = False
            if self._out:
                self._transport.write(b"".join(self._out))
                self._out.clear()
        if failed:
            self._transport.close()  # sends what was written before

    def _write(self, data: bytes) -> None:
        if self._reading:
            self._out.append(data)
        elif self._transport is not None:
            self._transport.write(data)

    def pause_writing(self) -> None:
        # Envoy reads slower than we answer: what it asks in the meantime waits in its own buffers.
        if self._transport is not None:
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        if self._transport is not None:
            self._transport.resume_reading()

    def connection_lost(self, error: Exception | None) -> None:
        self._server.transports.discard(self)
        self.connection.lost()

    @property
    def unsent(self) -> int:
        return 0 if self._transport is None else self._transport.get_write_buffer_size()

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()


class GrpcServer:
    """Serves the handlers, by path ("/package.Service/Method"), on a Unix socket."""

    def __init__(self, handlers: Mapping[str, Handler], message_limit: int) -> None:
        self.handlers = handlers
        self.message_limit = message_limit
        self.transports: set[_Transport] = set()
        self._server: asyncio.Server | None = None

    async def start(self, socket: Path) -> None:
        # Bound under another name first: the path must not be there before somebody listens.
        temporary = socket.with_suffix(".starting")
        with suppress(FileNotFoundError):
            temporary.unlink()
        loop = asyncio.get_running_loop()
        self._server = await loop.create_unix_server(lambda: _Transport(self), str(temporary), backlog=1024)
        os.replace(temporary, socket)

    @property
    def streams(self) -> int:
        """Open calls."""
        return sum(transport.connection.streams for transport in self.transports)

    @property
    def _unsent(self) -> int:
        """Bytes that Envoy has not taken yet."""
        return sum(transport.unsent for transport in self.transports)

    async def leave(self) -> None:
        """Tell Envoy to go elsewhere, and wait until no call is open. Until then all are served, new ones too."""
        for transport in list(self.transports):
            transport.connection.announce()
        await asyncio.sleep(_ON_ITS_WAY_SECONDS)
        while self.streams or self._unsent:  # noqa: ASYNC110  # once in a lifetime; calls need not tell of their ends
            await asyncio.sleep(_LOOK_SECONDS)

    async def stop(self, seconds: float) -> None:
        """Take no more calls, wait for the open ones as long as this, then close."""
        if self._server is not None:
            self._server.close()
        for transport in list(self.transports):
            transport.connection.drain()
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self.streams:  # noqa: ASYNC110  # as above
                    await asyncio.sleep(_LOOK_SECONDS)
        for transport in list(self.transports):
            transport.close()
