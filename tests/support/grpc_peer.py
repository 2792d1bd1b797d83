"""Both sides of a gRPC connection in memory: calls that note what they are told, and the h2 library as their client."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
)

from aion_extproc.extproc.grpc_call import Call, Handler, Reply
from aion_extproc.extproc.grpc_connection import Connection

LIMIT = 1 << 20
Told = tuple[str, bytes]


class Noted:
    """A call that notes what it is told and leaves the answer to the test."""

    def __init__(self, reply: Reply, headers: Mapping[str, str]) -> None:
        self.reply = reply
        self.headers = dict(headers)
        self.told: list[Told] = []

    def message(self, data: bytes) -> None:
        self.told.append(("message", data))

    def half_closed(self) -> None:
        self.told.append(("half_closed", b""))

    def lost(self) -> None:
        self.told.append(("lost", b""))

    @property
    def messages(self) -> list[bytes]:
        return [data for kind, data in self.told if kind == "message"]

    def count(self, kind: str) -> int:
        return [told for told, _ in self.told].count(kind)


class Echo(Noted):
    """Sends every message back, and ends when the peer has."""

    def message(self, data: bytes) -> None:
        super().message(data)
        self.reply.send(data)

    def half_closed(self) -> None:
        super().half_closed()
        self.reply.end()


class First(Noted):
    """Answers the first message and ends, without waiting for the peer's end: as an exchange does."""

    def message(self, data: bytes) -> None:
        super().message(data)
        self.reply.send(b"answer to " + data)
        self.reply.end()


class Hasty(Noted):
    """Has said everything before it is told anything."""

    def __init__(self, reply: Reply, headers: Mapping[str, str]) -> None:
        super().__init__(reply, headers)
        reply.send(b"no need to ask")
        reply.end()


class Broken(Noted):
    """Fails where the header "where" says."""

    def __init__(self, reply: Reply, headers: Mapping[str, str]) -> None:
        super().__init__(reply, headers)
        self._fail("constructor")

    def message(self, data: bytes) -> None:
        super().message(data)
        self._fail("message")

    def half_closed(self) -> None:
        super().half_closed()
        self._fail("half_closed")
        self.reply.end()

    def lost(self) -> None:
        super().lost()
        self._fail("lost")

    def _fail(self, where: str) -> None:
        if self.headers.get("where") == where:
            raise ValueError("a client's secret")


KINDS: dict[str, Callable[[Reply, Mapping[str, str]], Noted]] = {
    "/t.T/Noted": Noted,
    "/t.T/Echo": Echo,
    "/t.T/First": First,
    "/t.T/Hasty": Hasty,
    "/t.T/Broken": Broken,
}


def noting(calls: list[Noted]) -> Mapping[str, Handler]:
    """Handlers whose calls can be looked at, in the order in which they began."""

    def handler(kind: Callable[[Reply, Mapping[str, str]], Noted]) -> Handler:
        def begin(reply: Reply, headers: Mapping[str, str]) -> Call:
            calls.append(kind(reply, headers))
            return calls[-1]

        return begin

    return {path: handler(kind) for path, kind in KINDS.items()}


def framed(*messages: bytes) -> bytes:
    return b"".join(b"\0" + len(message).to_bytes(4, "big") + message for message in messages)


def unframed(data: bytes) -> list[bytes]:
    """The whole messages; nothing may be left over."""
    found = []
    while data:
        assert data[0] == 0
        end = 5 + int.from_bytes(data[1:5], "big")
        assert end <= len(data)
        found.append(data[5:end])
        data = data[end:]
    return found


def frames(data: bytes) -> list[tuple[int, int, int, bytes]]:
    """Kind, flags, stream and payload of each; nothing may be left over."""
    found = []
    while data:
        end = 9 + int.from_bytes(data[:3], "big")
        assert end <= len(data)
        found.append((data[3], data[4], int.from_bytes(data[5:9], "big"), data[9:end]))
        data = data[end:]
    return found


def request_headers(method: str, more: Iterable[tuple[str, str]] = ()) -> list[tuple[str, str]]:
    path = method if method.startswith("/") else f"/t.T/{method}"
    pseudo = [(":method", "POST"), (":scheme", "http"), (":path", path), (":authority", "aion")]
    return [*pseudo, ("te", "trailers"), ("content-type", "application/grpc"), *more]


class Peer:
    """A client: h2, which raises when we do what HTTP/2 does not allow (more than its windows, frames too large...)."""

    def __init__(self, *, limit: int = LIMIT, reading: bool = True) -> None:
        self.calls: list[Noted] = []
        self._out: list[bytes] = []
        self.server = Connection(noting(self.calls), self._out.append, limit)
        self.h2 = H2Connection(H2Configuration(client_side=True, header_encoding="utf-8"))
        self.events: list[Event] = []
        self.reading = reading  # opens the windows again as it reads
        self.server.begin()
        self.h2.initiate_connection()
        self.exchange()

    def taken(self) -> bytes:
        """What we have written since, in place of h2."""
        data = b"".join(self._out)
        self._out.clear()
        return data

    def exchange(self) -> None:
        """Until neither side has anything to say."""
        while True:
            # Write by write: h2 looks at the size of frames with the settings that it had before these bytes.
            pieces, self._out[:] = list(self._out), ()
            new = [event for piece in pieces for event in self.h2.receive_data(piece)]
            self.events += new
            if self.reading:
                for event in new:
                    if isinstance(event, DataReceived) and event.flow_controlled_length:
                        assert event.stream_id is not None
                        self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            out = self.h2.data_to_send()
            if out:
                self.server.feed(out)
            if not out and not self._out:
                return

    def raw(self, data: bytes) -> None:
        """Frames that h2 would not write, or not like this."""
        self.server.feed(data)
        self.exchange()

    def open(self, method: str, *more: tuple[str, str], end: bool = False, **options: Any) -> int:
        id = self.h2.get_next_available_stream_id()
        self.h2.send_headers(id, request_headers(method, more), end_stream=end, **options)
        self.exchange()
        return id

    def data(self, id: int, data: bytes, *, end: bool = False, padding: int | None = None) -> None:
        self.h2.send_data(id, data, end_stream=end, pad_length=padding)
        self.exchange()

    def send(self, id: int, *messages: bytes, end: bool = False) -> None:
        """As much at a time as the windows and frames allow. Fails when the other side never opens them."""
        data, at = framed(*messages), 0
        while at < len(data):
            size = min(self.h2.local_flow_control_window(id), self.h2.max_outbound_frame_size, len(data) - at)
            assert size > 0, "stalled"
            self.h2.send_data(id, data[at : at + size])
            at += size
            if size == self.h2.local_flow_control_window(id) or at % (1 << 22) < size:
                self.exchange()
        if end:
            self.h2.end_stream(id)
        self.exchange()

    def settings(self, values: Mapping[int, int]) -> None:
        self.h2.update_settings(dict(values))
        self.exchange()

    def of(self, id: int, kind: type[Event]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind) and getattr(event, "stream_id", id) == id]

    def body(self, id: int) -> bytes:
        return b"".join(event.data for event in self.of(id, DataReceived))

    def got(self, id: int) -> list[bytes]:
        return unframed(self.body(id))

    def status(self, id: int) -> int | None:
        """gRPC's; None while the call is not over."""
        if not self.of(id, StreamEnded):
            return None
        (answer,) = self.of(id, ResponseReceived)
        assert (":status", "200") in answer.headers
        assert ("content-type", "application/grpc") in answer.headers
        last = self.of(id, TrailersReceived) or [answer]
        return int(dict(last[0].headers)["grpc-status"])

    def resets(self, id: int) -> list[int]:
        return [int(event.error_code) for event in self.of(id, StreamReset)]

    @property
    def farewells(self) -> list[tuple[int, int]]:
        found = [event for event in self.events if isinstance(event, ConnectionTerminated)]
        return [(event.last_stream_id or 0, int(event.error_code or 0)) for event in found]
