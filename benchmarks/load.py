"""A small HTTP/1.1 load generator that hands back every body, so that a lost one is seen.

`python -m benchmarks.load PORT KIND CONNECTIONS SECONDS [PID…]` sends one of `benchmarks.kinds`, compares every byte
of every answer with what it must be, and prints one line of JSON: figures, and the CPU time that the named processes
used meanwhile. A process of its own, so that its work is nobody else's latency.
"""

from __future__ import annotations

import asyncio
import gc
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

_TICKS = os.sysconf("SC_CLK_TCK")
_WARM_UP_SECONDS = 0.3
_SHOWN = 3  # texts about bad answers that are passed on


@dataclass(slots=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes
    seconds: float  # from the request's first byte to the answer's last


@dataclass(slots=True)
class Result:
    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)
    bad: list[str] = field(default_factory=list)  # what was wrong with an answer, one text each

    @property
    def per_second(self) -> float:
        return len(self.latencies) / self.seconds

    def percentile(self, share: float) -> float:
        ordered = sorted(self.latencies)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


class _Connection(asyncio.Protocol):
    """One answer at a time: `expect`, write, await. Reads by content-length or in chunks."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self._buffer = bytearray()
        self._waiting: asyncio.Future[tuple[int, dict[str, str], bytes]] | None = None
        self._head: tuple[int, dict[str, str]] | None = None
        self._length: int | None = None  # None: in chunks
        self._at = 0
        self._parts: list[bytes] = []
        self.lost = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's class derives from neither

    def expect(self) -> asyncio.Future[tuple[int, dict[str, str], bytes]]:
        self._waiting = asyncio.get_running_loop().create_future()
        return self._waiting

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if self._head is None:
            end = self._buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            self._read_head(self._buffer[:end].decode("latin-1"))
            self._at = end + 4
        assert self._head is not None
        if self._length is None:
            if not self._read_chunks():
                return
            body = b"".join(self._parts)
        else:
            if len(self._buffer) < self._at + self._length:
                return
            body = bytes(self._buffer[self._at : self._at + self._length])
            self._at += self._length
        status, headers = self._head
        del self._buffer[: self._at]
        self._head, self._parts = None, []
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result((status, headers, body))

    def _read_head(self, head: str) -> None:
        status_line, *lines = head.split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        self._head = (int(status_line.split()[1]), headers)
        chunked = headers.get("transfer-encoding") == "chunked"
        self._length = None if chunked else int(headers.get("content-length", "0"))

    def _read_chunks(self) -> bool:
        """Whether the last chunk is in."""
        buffer = self._buffer
        while (line := buffer.find(b"\r\n", self._at)) >= 0:
            size = int(buffer[self._at : line], 16)
            end = line + 2 + size
            if len(buffer) < end + 2:
                return False
            self._at = end + 2
            if size == 0:
                return True
            self._parts.append(bytes(buffer[line + 2 : end]))
        return False

    def connection_lost(self, error: Exception | None) -> None:
        self.lost = True
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(error or EOFError(f"closed with {len(self._buffer)} bytes of an answer"))


class Client:
    """One keep-alive connection."""

    def __init__(self, host: str, port: int) -> None:
        self.host, self.port = host, port
        self._connection: _Connection | None = None

    async def post(self, path: str, body: bytes, headers: str = "") -> Answer:
        """Send one request and read the whole answer; `headers` are lines that end in CRLF.

        Raises OSError or EOFError when the connection breaks.
        """
        if self._connection is None or self._connection.lost:
            loop = asyncio.get_running_loop()
            _, self._connection = await loop.create_connection(_Connection, self.host, self.port)
        connection = self._connection
        assert connection.transport is not None
        start = time.perf_counter()
        head = (
            f"POST {path} HTTP/1.1\r\nhost: {self.host}:{self.port}\r\ncontent-type: application/json\r\n"
            f"content-length: {len(body)}\r\n{headers}\r\n"
        )
        answered = connection.expect()
        connection.transport.write(head.encode() + body)
        status, fields, payload = await answered
        answer = Answer(status, fields, payload, time.perf_counter() - start)
        if fields.get("connection") == "close":
            self.close()
        return answer

    def close(self) -> None:
        if self._connection is not None and self._connection.transport is not None:
            self._connection.transport.close()
        self._connection = None


async def run(
    port: int,
    path: str,
    body: Callable[[int], bytes],
    check: Callable[[bytes, Answer], str | None],
    connections: int,
    seconds: float,
    headers: str = "",
) -> Result:
    """Send for `seconds` over so many connections; `check` says what is wrong with an answer, or None."""
    result = Result()
    end = time.perf_counter() + seconds
    counter = iter(range(1 << 40))

    async def one() -> None:
        client = Client("127.0.0.1", port)
        while time.perf_counter() < end:
            sent = body(next(counter))
            try:
                answer = await client.post(path, sent, headers)
            except (OSError, EOFError) as error:
                result.bad.append(repr(error))
                client.close()
                await asyncio.sleep(0.001)  # a port that nobody listens on must not make this a busy loop
                continue
            result.latencies.append(answer.seconds)
            if wrong := check(sent, answer):
                result.bad.append(wrong)
        client.close()

    start = time.perf_counter()
    await asyncio.gather(*(one() for _ in range(connections)))
    result.seconds = time.perf_counter() - start
    return result


def cpu_seconds(pid: int) -> float:
    """User and system time of a process, in steps of 10 ms."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


async def measure(port: int, name: str, connections: int, seconds: float, pids: Sequence[int]) -> dict[str, object]:
    """One cell of a benchmark, after a short warm-up whose answers are checked as well. Times in milliseconds."""
    from benchmarks.kinds import KINDS

    kind = KINDS[name]
    warm = await run(port, kind.path, kind.body, kind.check, connections, _WARM_UP_SECONDS, kind.headers)
    gc.collect()
    gc.freeze()
    before = [cpu_seconds(pid) for pid in pids]
    result = await run(port, kind.path, kind.body, kind.check, connections, seconds, kind.headers)
    used = [cpu_seconds(pid) - start for pid, start in zip(pids, before, strict=True)]
    bad = warm.bad + result.bad
    count = len(result.latencies)
    return {
        "requests": count,
        "all_requests": count + len(warm.latencies),
        "bad": len(bad),
        "bad_shown": bad[:_SHOWN],
        "per_second": result.per_second,
        "p50_ms": result.percentile(0.5) * 1000 if count else None,
        "p99_ms": result.percentile(0.99) * 1000 if count else None,
        "cpu_ms": [seconds * 1000 / count if count else None for seconds in used],
    }


def main(arguments: Sequence[str]) -> None:
    import orjson
    import uvloop

    port, kind, connections, seconds, *pids = arguments
    cell = measure(int(port), kind, int(connections), float(seconds), [int(pid) for pid in pids])
    sys.stdout.buffer.write(orjson.dumps(uvloop.run(cell)) + b"\n")


if __name__ == "__main__":
    main(sys.argv[1:])
