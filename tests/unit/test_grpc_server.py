"""gRPC's server side on a Unix socket: grpcio is the client."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, SettingsAcknowledged, StreamEnded

from aion_extproc.extproc.failed_attempts import FailedAttempts
from aion_extproc.extproc.grpc_server import GrpcServer
from aion_extproc.extproc.http2 import GOAWAY, HEADERS, PREFACE, PROTOCOL_ERROR, SETTINGS, frame
from aion_extproc.extproc.journal import Journal
from aion_extproc.extproc.log_sink import LogSink
from aion_extproc.extproc.policy import Policies
from aion_extproc.extproc.service import MESSAGE_LIMIT, Service
from tests.support.exchanges import OPEN
from tests.support.grpc_peer import Noted, framed, frames, noting, request_headers, unframed

pytestmark = pytest.mark.anyio
OPTIONS = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
MANY = 1_000
LARGE = bytes(range(256)) * 80_000  # 20 MB


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    return "asyncio", {"use_uvloop": request.param}


@asynccontextmanager
async def serving(path: Path) -> AsyncIterator[tuple[GrpcServer, list[Noted]]]:
    calls: list[Noted] = []
    server = GrpcServer(noting(calls), MESSAGE_LIMIT)
    await server.start(path)
    try:
        yield server, calls
    finally:
        await server.stop(0)


@asynccontextmanager
async def client(path: Path, *options: tuple[str, int]) -> AsyncIterator[Any]:  # a channel: its types know no bytes
    async with grpc.aio.insecure_channel(f"unix:{path}", options=[*OPTIONS, *options]) as channel:
        yield channel


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 (a call has no event for us)
            await asyncio.sleep(0.005)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "worker.sock"


async def test_unary_calls(path: Path) -> None:
    async with serving(path) as (server, calls), client(path) as channel:
        call = channel.unary_unary("/t.T/Echo")
        for n in range(20):
            assert await call(b"%d" % n, metadata=(("name", "value"),), timeout=10) == b"%d" % n
        assert calls[-1].headers["name"] == "value"
        assert server.streams == 0


async def test_a_synchronous_client(path: Path) -> None:
    def run() -> tuple[bytes, list[bytes], grpc.StatusCode]:
        channel: Any
        with grpc.insecure_channel(f"unix:{path}", options=OPTIONS) as channel:
            one = channel.unary_unary("/t.T/Echo")(b"hello", timeout=10)
            several = list(channel.stream_stream("/t.T/Echo")(iter([b"a", b"", b"c"]), timeout=10))
            try:
                channel.unary_unary("/t.T/Unknown")(b"hello", timeout=10)
            except grpc.RpcError as error:
                return one, several, error.code()
            raise AssertionError("an unknown method was found")

    async with serving(path):
        assert await asyncio.to_thread(run) == (b"hello", [b"a", b"", b"c"], grpc.StatusCode.UNIMPLEMENTED)


async def test_a_stream_of_many_messages_each_way(path: Path) -> None:
    async with serving(path) as (server, calls), client(path) as channel:
        call = channel.stream_stream("/t.T/Echo")(timeout=20)
        for n in range(MANY):
            await call.write(b"%d" % n)
            assert await call.read() == b"%d" % n
        await call.done_writing()
        assert await call.read() == grpc.aio.EOF
        assert await call.code() == grpc.StatusCode.OK
        assert (len(calls[0].messages), server.streams) == (MANY, 0)


async def test_many_messages_at_once(path: Path) -> None:
    async with serving(path), client(path) as channel:
        messages = [b"%d" % n * (n % 50) for n in range(MANY)]
        assert [answer async for answer in channel.stream_stream("/t.T/Echo")(iter(messages), timeout=20)] == messages


async def test_large_messages_each_way(path: Path) -> None:
    async with serving(path), client(path) as channel:
        answers = [answer async for answer in channel.stream_stream("/t.T/Echo")(iter([LARGE, LARGE]), timeout=20)]
        assert answers == [LARGE, LARGE]


async def test_an_end_before_the_clients(path: Path) -> None:
    async with serving(path) as (server, calls), client(path) as channel:
        call = channel.stream_stream("/t.T/First")(timeout=10)
        await call.write(b"hello")
        assert await call.read() == b"answer to hello"
        assert await call.read() == grpc.aio.EOF
        assert await call.code() == grpc.StatusCode.OK
        assert (calls[0].told, server.streams) == ([("message", b"hello")], 0)


@pytest.mark.parametrize("where", ["constructor", "message", "half_closed"])
async def test_a_call_that_fails(path: Path, where: str) -> None:
    async with serving(path) as (server, _), client(path) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await channel.unary_unary("/t.T/Broken")(b"x", metadata=(("where", where),), timeout=10)
        assert (raised.value.code(), raised.value.details()) == (grpc.StatusCode.INTERNAL, "the call failed")
        assert await channel.unary_unary("/t.T/Echo")(b"x", timeout=10) == b"x"
        assert server.streams == 0


async def test_a_client_that_compresses(path: Path) -> None:
    async with serving(path), client(path) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await channel.unary_unary("/t.T/Echo")(bytes(10_000), compression=grpc.Compression.Gzip, timeout=10)
        assert raised.value.code() == grpc.StatusCode.UNIMPLEMENTED


async def test_a_cancelled_call(path: Path) -> None:
    async with serving(path) as (server, calls), client(path) as channel:
        call = channel.stream_stream("/t.T/Noted")(timeout=10)
        await call.write(b"hello")
        await until(lambda: bool(calls and calls[0].told))
        call.cancel()
        await until(lambda: server.streams == 0)
        assert calls[0].told == [("message", b"hello"), ("lost", b"")]
        calls[0].reply.send(b"too late")
        assert await channel.unary_unary("/t.T/Echo")(b"x", timeout=10) == b"x"


async def test_a_deadline(path: Path) -> None:
    async with serving(path) as (server, calls), client(path) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await channel.unary_unary("/t.T/Noted")(b"x", timeout=0.05)
        assert raised.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
        await until(lambda: server.streams == 0)
        assert calls[0].told == [("message", b"x"), ("half_closed", b""), ("lost", b"")]


async def test_many_calls_at_once(path: Path) -> None:
    async with serving(path) as (server, calls), client(path) as channel:
        call = channel.unary_unary("/t.T/Echo")
        messages = [b"%d" % n * 1_000 for n in range(200)]
        assert await asyncio.gather(*(call(message, timeout=20) for message in messages)) == messages
        assert (len(calls), server.streams, len(server.transports)) == (200, 0, 1)


async def test_keepalive_pings(path: Path) -> None:
    """A ping that is not answered within 100 ms would end the call as UNAVAILABLE, before its deadline."""
    keepalive = [("grpc.keepalive_time_ms", 20), ("grpc.keepalive_timeout_ms", 100)]
    async with serving(path), client(path, *keepalive, ("grpc.http2.max_pings_without_data", 0)) as channel:
        call = channel.stream_stream("/t.T/Noted")(timeout=0.6)
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await call.read()
        assert raised.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED


async def test_a_client_that_leaves(path: Path) -> None:
    async with serving(path) as (server, calls):
        _, writer = await asyncio.open_unix_connection(path)
        h2 = H2Connection(H2Configuration(client_side=True))
        h2.initiate_connection()
        for id in (1, 3):
            h2.send_headers(id, request_headers("Noted"))
        writer.write(h2.data_to_send())
        await until(lambda: server.streams == 2)
        writer.close()
        await until(lambda: not server.transports)
        assert [call.told for call in calls] == [[("lost", b"")]] * 2


async def test_a_client_that_does_not_speak_http2_is_told_so(path: Path) -> None:
    """What was written before, then why, then the end."""
    async with serving(path) as (server, _):
        for wrong in (b"GET / HTTP/1.1\r\n\r\n" * 2, PREFACE + frame(HEADERS, 0, 2) + frame(SETTINGS, 0, 0)):
            reader, writer = await asyncio.open_unix_connection(path)
            writer.write(wrong)
            async with asyncio.timeout(5):
                sent = frames(await reader.read(-1))
            assert sent[0][0] == SETTINGS
            assert sent[-1] == (GOAWAY, 0, 0, bytes(4) + PROTOCOL_ERROR.to_bytes(4, "big"))
            writer.close()
        await until(lambda: not server.transports)


async def test_a_client_that_reads_late_gets_everything(path: Path) -> None:
    """More than the socket takes: we stop reading its requests until it has read the answers."""
    async with serving(path) as (_, calls):
        h2, reader, writer = await wide_open(path)
        h2.send_headers(1, request_headers("Noted"))
        writer.write(h2.data_to_send())
        await until(lambda: len(calls) == 1)
        calls[0].reply.send(LARGE[: 4 << 20])
        calls[0].reply.end()
        ids = range(3, 403, 2)
        for id in ids:
            h2.send_headers(id, request_headers("Echo"))
            h2.send_data(id, framed(b"y" * 15_000), end_stream=True)
        writer.write(h2.data_to_send())
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(writer.drain(), 0.2)
        assert len(calls) == 1
        seen: dict[int, bytes] = {}
        ended: set[int] = set()
        async with asyncio.timeout(10):
            while len(ended) < 201:
                for event in h2.receive_data(await reader.read(1 << 20)):
                    if isinstance(event, DataReceived) and event.stream_id is not None:
                        seen[event.stream_id] = seen.get(event.stream_id, b"") + (event.data or b"")
                    elif isinstance(event, StreamEnded) and event.stream_id is not None:
                        ended.add(event.stream_id)
        assert unframed(seen.pop(1)) == [LARGE[: 4 << 20]]
        assert {id: unframed(data) for id, data in seen.items()} == {id: [b"y" * 15_000] for id in ids}
        writer.close()


async def wide_open(path: Path) -> tuple[H2Connection, asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection without a bound for what we send, whose client has read our settings."""
    reader, writer = await asyncio.open_unix_connection(path)
    h2 = H2Connection(H2Configuration(client_side=True))
    h2.initiate_connection()
    h2.update_settings({4: 2**31 - 1})
    h2.increment_flow_control_window(2**31 - 1 - 65_535)
    writer.write(h2.data_to_send())
    acknowledged = 0
    while acknowledged < 2:
        events = h2.receive_data(await reader.read(1 << 16))
        acknowledged += sum(isinstance(event, SettingsAcknowledged) for event in events)
    return h2, reader, writer


# Its end


async def test_who_leaves_goes_when_the_last_answer_has_been_read(path: Path) -> None:
    async with serving(path) as (server, calls):
        h2, reader, writer = await wide_open(path)
        h2.send_headers(1, request_headers("Noted"))
        writer.write(h2.data_to_send())
        await until(lambda: len(calls) == 1)
        leaving = asyncio.create_task(server.leave())
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(leaving), 0.3)
        calls[0].reply.send(LARGE)
        calls[0].reply.end()
        with pytest.raises(TimeoutError):  # all is said, and nobody has read it
            await asyncio.wait_for(asyncio.shield(leaving), 0.3)
        reading = asyncio.create_task(reader.read(-1))
        async with asyncio.timeout(10):
            await leaving
            await server.stop(1)
            received = await reading
        kinds = [frame[0] for frame in frames(received)]
        assert kinds[0] == GOAWAY
        assert sum(len(frame[3]) for frame in frames(received) if frame[0] == 0) == 5 + len(LARGE)
        assert kinds.count(HEADERS) == 2
        writer.close()


async def test_stop_waits_for_open_calls_no_longer_than_told(path: Path) -> None:
    async with serving(path) as (server, calls), client(path) as channel:
        call = channel.stream_stream("/t.T/Noted")(timeout=10)
        await call.write(b"hello")
        await until(lambda: server.streams == 1)
        begun = time.monotonic()
        await server.stop(0.1)
        assert 0.09 <= time.monotonic() - begun < 2  # a loop's clock may count in milliseconds
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await call.read()
        assert raised.value.code() == grpc.StatusCode.UNAVAILABLE
        await until(lambda: not server.transports)
        assert calls[0].told[-1] == ("lost", b"")


async def test_stop_lets_an_open_call_finish(path: Path) -> None:
    async with serving(path) as (server, _), client(path) as channel:
        call = channel.stream_stream("/t.T/Echo")(timeout=10)
        await call.write(b"one")
        assert await call.read() == b"one"
        stopping = asyncio.create_task(server.stop(10))
        await call.write(b"two")
        assert await call.read() == b"two"
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await channel.unary_unary("/t.T/Echo")(b"x", timeout=5)
        assert raised.value.code() == grpc.StatusCode.UNAVAILABLE  # it was told to open no more
        assert not stopping.done()
        await call.done_writing()
        assert await call.read() == grpc.aio.EOF
        assert await call.code() == grpc.StatusCode.OK
        async with asyncio.timeout(5):
            await stopping


async def test_stop_with_a_client_that_does_not_read(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with serving(path) as (server, calls):
        h2, reader, writer = await wide_open(path)
        h2.send_headers(1, request_headers("Noted"))
        writer.write(h2.data_to_send())
        await until(lambda: len(calls) == 1)
        calls[0].reply.send(LARGE)  # which pauses the reading; what resumes it comes after the close
        async with asyncio.timeout(5):
            await server.stop(0.05)
        size = 0
        async with asyncio.timeout(10):
            while chunk := await reader.read(1 << 20):
                size += len(chunk)
        assert size > len(LARGE)
        writer.close()
        await until(lambda: not server.transports)
        assert calls[0].count("lost") == 1
    assert [record.getMessage() for record in caplog.records if record.name.startswith(("asyncio", "uvloop"))] == []


async def test_a_second_start_takes_the_path_over(path: Path) -> None:
    path.with_suffix(".starting").touch()  # left by one that was killed on its way
    async with serving(path) as (_, old), client(path) as before:
        call = before.unary_unary("/t.T/Echo")
        await call(b"1", timeout=10)
        async with serving(path) as (_, new), client(path, ("grpc.use_local_subchannel_pool", 1)) as after:
            await after.unary_unary("/t.T/Echo")(b"2", timeout=10)
            await call(b"3", timeout=10)
            assert [call.messages for call in old] == [[b"1"], [b"3"]]
            assert [call.messages for call in new] == [[b"2"]]
            assert sorted(entry.name for entry in path.parent.iterdir()) == [path.name]


async def test_health(path: Path) -> None:
    sink = LogSink(Policies(OPEN), lambda *_: None, FailedAttempts(lambda _: None))
    service = Service(Policies(OPEN), lambda seconds: None, lambda *_: None, sink, Journal())
    server = GrpcServer(service.handlers(), MESSAGE_LIMIT)
    await server.start(path)
    async with client(path) as channel:
        check = channel.unary_unary("/grpc.health.v1.Health/Check")
        assert await check(b"", timeout=10) == b"\x08\x01"  # HealthCheckResponse{status: SERVING}
        service.serving = False
        assert await check(b"\x0a\x04name", timeout=10) == b"\x08\x02"
        assert server.streams == 0
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            _ = [one async for one in channel.unary_stream("/grpc.health.v1.Health/Watch")(b"", timeout=10)]
        assert raised.value.code() == grpc.StatusCode.UNIMPLEMENTED  # a client then takes it for healthy
    await server.stop(1)
