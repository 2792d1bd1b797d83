"""A stand-in for a provider that keeps every byte it received and answers as a test tells it to."""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from types import TracebackType

_SOCK_DIAG = 4  # NETLINK_SOCK_DIAG


@dataclass(frozen=True)
class Received:
    """One request, as it came over the wire."""

    method: str
    path: str
    headers: list[tuple[str, str]]  # as sent, names in lower case
    body: bytes

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key == name), None)


@dataclass
class Answer:
    """What to answer. Chunks are written one by one; a threading.Event among them holds the rest until it is set."""

    status: int = 200
    content_type: str = "application/json"
    chunks: Iterable[bytes | threading.Event] = (b"{}",)
    headers: tuple[tuple[str, str], ...] = ()
    break_off: bool = False  # close the connection after the chunks, without an end
    hang_up_first: bool = False  # close it without answering at all
    pace: float = 0.0  # seconds between two chunks
    silent: bool = False  # take the request and say nothing until the gateway hangs up
    apart: bool = False  # write a chunk only when the gateway has read the one before, so that it sees them apart


@dataclass
class Upstream:
    """`with Upstream(answer) as upstream:` serves on 127.0.0.1:`port` until the block ends."""

    answer: Callable[[Received], Answer]
    received: list[Received] = field(default_factory=list)
    disconnected: threading.Event = field(default_factory=threading.Event)  # the gateway hung up during an answer
    sent: int = 0  # chunks that the gateway's side has taken
    port: int = 0
    tls: ssl.SSLContext | None = None

    def __enter__(self) -> Upstream:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        start = asyncio.start_server(self._serve, "127.0.0.1", self.port, limit=1 << 27, ssl=self.tls)
        self._server = asyncio.run_coroutine_threadsafe(start, self._loop).result(10)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._loop.call_soon_threadsafe(self._server.close)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def last(self) -> Received:
        return self.received[-1]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                request = await _read(reader)
                self.received.append(request)
                if not await self._reply(self.answer(request), writer, reader):
                    break
        except (OSError, EOFError):
            pass
        finally:
            writer.close()

    async def _reply(self, answer: Answer, writer: asyncio.StreamWriter, reader: asyncio.StreamReader) -> bool:
        if answer.hang_up_first:
            return False
        if answer.silent:
            await self._held(threading.Event(), reader)
            self.disconnected.set()
            return False
        chunks = list(answer.chunks)
        head = f"HTTP/1.1 {answer.status} X\r\ncontent-type: {answer.content_type}\r\n"
        head += "".join(f"{name}: {value}\r\n" for name, value in answer.headers)
        plain = len(chunks) == 1 and isinstance(chunks[0], bytes) and not answer.break_off
        if plain:
            assert isinstance(chunks[0], bytes)
            writer.write(f"{head}content-length: {len(chunks[0])}\r\n\r\n".encode() + chunks[0])
            await writer.drain()
            return True
        writer.write(f"{head}transfer-encoding: chunked\r\n\r\n".encode())
        for chunk in chunks:
            if isinstance(chunk, bytes):
                writer.write(b"%x\r\n%b\r\n" % (len(chunk), chunk))
                await writer.drain()
                self.sent += 1
                if answer.apart:
                    await _taken(writer)
                if answer.pace:
                    await asyncio.sleep(answer.pace)
            elif not await self._held(chunk, reader):
                self.disconnected.set()
                return False
        if answer.break_off:
            return False
        writer.write(b"0\r\n\r\n")
        await writer.drain()
        return True

    async def _held(self, gate: threading.Event, reader: asyncio.StreamReader) -> bool:
        """Wait for the gate; False when the other side hangs up first."""
        while not gate.is_set():
            if reader.at_eof():
                return False
            await asyncio.sleep(0.01)
        return True


async def _taken(writer: asyncio.StreamWriter) -> None:
    """Wait until nothing lies unread in the other side's socket, as the kernel tells it."""
    ours, theirs = writer.get_extra_info("sockname"), writer.get_extra_info("peername")
    with socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, _SOCK_DIAG) as kernel:
        kernel.connect((0, 0))
        while _unread(kernel, theirs, ours):  # noqa: ASYNC110
            await asyncio.sleep(0.0005)  # between two looks; the kernel tells nobody


def _unread(kernel: socket.socket, local: tuple[str, int], remote: tuple[str, int]) -> int:
    """Bytes in the receive queue of a TCP socket of this machine; 0 when there is none. See sock_diag(7)."""
    ports = struct.pack("!HH", local[1], remote[1])
    addresses = struct.pack("4s12x4s12x", socket.inet_aton(local[0]), socket.inet_aton(remote[0]))
    any_interface_and_cookie = struct.pack("=III", 0, 0xFFFFFFFF, 0xFFFFFFFF)
    request = struct.pack("=BBBBI", socket.AF_INET, socket.IPPROTO_TCP, 0, 0, 0xFFFFFFFF)
    request += ports + addresses + any_interface_and_cookie
    kernel.send(struct.pack("=IHHII", 16 + len(request), 20, 1, 0, 0) + request)  # 20: SOCK_DIAG_BY_FAMILY
    reply = kernel.recv(4096)
    (kind,) = struct.unpack_from("=H", reply, 4)
    return 0 if kind != 20 else int(struct.unpack_from("=I", reply, 16 + 4 + 48 + 4)[0])


async def _read(reader: asyncio.StreamReader) -> Received:
    head = (await reader.readuntil(b"\r\n\r\n"))[:-4].decode("latin-1")
    first, *lines = head.split("\r\n")
    method, path, _ = first.split(" ")
    headers = [(name.lower(), value.strip()) for name, _, value in (line.partition(":") for line in lines)]
    fields = dict(headers)
    if "content-length" in fields:
        body = await reader.readexactly(int(fields["content-length"]))
    elif fields.get("transfer-encoding") == "chunked":
        parts = []
        while size := int(await reader.readuntil(b"\r\n"), 16):
            parts.append((await reader.readexactly(size + 2))[:-2])
        await reader.readexactly(2)
        body = b"".join(parts)
    else:
        body = b""
    return Received(method, path, headers, body)
