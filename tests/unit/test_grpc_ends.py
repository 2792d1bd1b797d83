"""How gRPC calls end: by either side, by a failure, with their connection. The h2 library is the peer."""

from __future__ import annotations

import sys

import pytest
from h2.events import TrailersReceived
from hpack import Encoder

from aion_extproc.extproc.grpc_call import INTERNAL, OK, RESOURCE_EXHAUSTED, UNIMPLEMENTED
from aion_extproc.extproc.grpc_connection import Connection
from aion_extproc.extproc.http2 import (
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PREFACE,
    REFUSED,
    RST,
    WINDOW,
    frame,
)
from tests.support.grpc_peer import Peer, framed, frames, noting, request_headers

CANCEL = (8).to_bytes(4, "big")

def test_a_cancelled_call_is_lost_once_and_sends_no_more() -> None:
    peer = Peer()
    id = peer.open("Noted")
    peer.send(id, b"hello")
    call = peer.calls[0]
    peer.h2.reset_stream(id)
    peer.exchange()
    assert call.told == [("message", b"hello"), ("lost", b"")]
    assert call.reply.ended
    call.reply.send(b"too late")
    call.reply.end()
    peer.server.lost()
    assert call.count("lost") == 1
    peer.exchange()
    assert peer.body(id) == b""
    assert (peer.status(id), peer.server.streams) == (None, 0)


def test_a_cancelled_call_takes_what_waits_for_the_window_with_it() -> None:
    peer = Peer(reading=False)
    first, second = peer.open("Noted"), peer.open("Noted")
    peer.calls[0].reply.send(bytes(200_000))
    peer.calls[0].reply.end()
    peer.exchange()
    assert len(peer.body(first)) == 65_535
    peer.h2.reset_stream(first)
    peer.exchange()
    assert peer.calls[0].told == []  # it had ended
    peer.calls[1].reply.send(b"hello")
    peer.calls[1].reply.end()
    peer.h2.increment_flow_control_window(1 << 20)
    peer.exchange()
    assert len(peer.body(first)) == 65_535
    assert (peer.got(second), peer.status(second), peer.server.streams) == ([b"hello"], OK, 0)


def test_a_lost_connection_is_the_end_of_every_call_that_has_none() -> None:
    peer = Peer(reading=False)
    ended, open_, waiting = peer.open("First"), peer.open("Noted"), peer.open("Noted")
    peer.send(ended, b"x")
    peer.calls[2].reply.send(bytes(100_000))
    peer.calls[2].reply.end()  # all said, though not all of it has left
    peer.exchange()
    assert peer.status(waiting) is None
    peer.server.lost()
    peer.server.lost()
    assert [call.count("lost") for call in peer.calls] == [0, 1, 0]
    assert peer.server.streams == 0
    peer.calls[1].reply.send(b"too late")
    peer.calls[1].reply.end()
    peer.exchange()
    assert peer.body(open_) == b""


@pytest.mark.parametrize("where", ["constructor", "message", "half_closed"])
def test_a_call_that_fails_takes_no_other_with_it(where: str) -> None:
    peer = Peer()
    other = peer.open("Echo")
    id = peer.open("Broken", ("where", where))
    if where != "constructor":
        peer.send(id, b"x", b"y")
        if where == "half_closed":
            assert peer.status(id) is None
            peer.h2.end_stream(id)
            peer.exchange()
    assert peer.status(id) == INTERNAL
    assert "secret" not in str(peer.events)
    if where == "message":
        assert peer.calls[1].told == [("message", b"x")]
    peer.send(other, b"still here", end=True)
    assert (peer.got(other), peer.status(other), peer.server.streams) == ([b"still here"], OK, 0)


def test_a_call_that_fails_after_an_answer_has_trailers_of_its_own() -> None:
    peer = Peer()
    id = peer.open("Broken", ("where", "half_closed"))
    peer.calls[0].reply.send(b"begun")
    peer.data(id, framed(b"x"), end=True)
    assert (peer.got(id), peer.status(id)) == ([b"begun"], INTERNAL)
    assert len(peer.of(id, TrailersReceived)) == 1


def test_a_call_that_fails_when_it_is_lost_takes_no_other_with_it() -> None:
    peer = Peer()
    ids = [peer.open("Broken", ("where", "lost")), peer.open("Noted"), peer.open("Broken", ("where", "lost"))]
    other = peer.open("Echo")
    peer.h2.reset_stream(ids[0])
    peer.h2.send_data(other, framed(b"x"), end_stream=True)  # in the same bytes
    peer.exchange()
    assert peer.status(other) == OK
    peer.server.lost()
    assert [call.count("lost") for call in peer.calls] == [1, 1, 1, 0]


@pytest.mark.parametrize("method", ["Unknown", "/", "/t.T/", "/T.T/Echo"])
@pytest.mark.parametrize("end", [True, False])
def test_an_unknown_method(method: str, end: bool) -> None:
    peer = Peer()
    id = peer.open(method, end=end)
    assert peer.status(id) == UNIMPLEMENTED
    # Without the reset the stream would stay half open at the peer.
    assert peer.resets(id) == ([] if end else [0])
    assert peer.server.streams == 0
    assert peer.calls == []


def test_compressed_messages_are_not_read() -> None:
    peer = Peer()
    id = peer.open("Noted")
    peer.data(id, framed(b"plain") + b"\1" + framed(b"packed")[1:] + framed(b"more"))
    assert peer.calls[0].told == [("message", b"plain")]
    assert (peer.status(id), peer.resets(id), peer.server.streams) == (UNIMPLEMENTED, [0], 0)


@pytest.mark.parametrize("kept", [5, 6, 106])
def test_a_message_is_too_large_as_soon_as_its_length_is_known(kept: int) -> None:
    peer = Peer(limit=100)
    fits, id = peer.open("Echo"), peer.open("Noted")
    peer.send(fits, bytes(100), end=True)
    peer.data(id, framed(b"before") + framed(bytes(101))[:kept])
    assert peer.calls[1].told == [("message", b"before")]
    assert (peer.status(id), peer.resets(id)) == (RESOURCE_EXHAUSTED, [0])
    assert (peer.status(fits), peer.server.streams) == (OK, 0)


def test_our_end_comes_before_the_peers() -> None:
    """Trailers, then a reset without an error; what is still under way is ignored, and counted."""
    peer = Peer()
    id = peer.open("First")
    peer.h2.send_data(id, framed(b"one", b"two"))
    under_way = [framed(b"x" * 16_000) for _ in range(3)]
    for data in under_way:
        peer.h2.send_data(id, data)
    peer.exchange()
    assert peer.calls[0].told == [("message", b"one")]
    assert (peer.got(id), peer.status(id), peer.resets(id)) == ([b"answer to one"], OK, [0])
    assert isinstance(peer.of(id, TrailersReceived)[0], TrailersReceived)
    peer.server.feed(frame(DATA, END_STREAM, id, b"more"))
    peer.server.feed(frame(HEADERS, END_HEADERS | END_STREAM, id, Encoder().encode([("late", "trailer")])))
    peer.server.feed(frame(HEADERS, END_HEADERS | END_STREAM, id, Encoder().encode(request_headers("Echo"))))
    assert (len(peer.calls), peer.server.streams, peer.taken()) == (1, 0, b"")


@pytest.mark.parametrize("end", [True, False])
def test_an_answer_before_anything_is_told(end: bool) -> None:
    peer = Peer()
    id = peer.open("Hasty", end=end)
    assert (peer.got(id), peer.status(id), peer.resets(id)) == ([b"no need to ask"], OK, [] if end else [0])
    assert (peer.calls[0].told, peer.server.streams) == ([], 0)


def test_data_of_calls_that_have_ended_comes_back_as_window_of_the_connection() -> None:
    """The peer's window for all streams is 2 GB and is opened again at half of it: also for what nobody reads."""
    out: list[bytes] = []
    server = Connection(noting([]), out.append, 100)
    server.feed(PREFACE)
    server.feed(frame(HEADERS, END_HEADERS, 1, Encoder().encode(request_headers("Unknown"))))
    out.clear()
    data = frame(DATA, 0, 1, bytes(256 << 10))
    for _ in range(4097):
        server.feed(data)
    assert [(data[3], int.from_bytes(data[5:9], "big")) for data in out] == [(WINDOW, 0)]
    assert int.from_bytes(out[0][9:], "big") == 4096 * (256 << 10)


def test_draining_refuses_new_calls_and_lets_the_open_ones_finish() -> None:
    peer = Peer()
    id = peer.open("Echo")
    peer.server.drain()
    late = id + 2  # was on its way when we said so
    headers = frame(HEADERS, END_HEADERS, late, peer.h2.encoder.encode(request_headers("Echo")))
    peer.server.feed(headers + frame(DATA, END_STREAM, late, framed(b"x")))
    peer.server.feed(frame(DATA, END_STREAM, id, framed(b"goes on")))
    # h2 takes nothing any more after a farewell, so what we write is looked at here.
    farewell, refusal, answer, message, trailers = frames(peer.taken())
    assert farewell == (GOAWAY, 0, 0, id.to_bytes(4, "big") + bytes(4))
    assert refusal == (RST, 0, late, REFUSED.to_bytes(4, "big"))
    assert answer[:3] == (HEADERS, END_HEADERS, id)
    assert message == (DATA, 0, id, framed(b"goes on"))
    assert trailers[:3] == (HEADERS, END_HEADERS | END_STREAM, id)
    assert (len(peer.calls), peer.calls[0].messages, peer.server.streams) == (1, [b"goes on"], 0)


def test_a_farewell_that_is_only_announced_refuses_nobody() -> None:
    peer = Peer()
    peer.server.announce()
    id = 1
    headers = frame(HEADERS, END_HEADERS, id, peer.h2.encoder.encode(request_headers("Echo")))
    peer.server.feed(headers + frame(DATA, END_STREAM, id, framed(b"was on its way")))
    farewell, _, message, trailers = frames(peer.taken())
    assert farewell == (GOAWAY, 0, 0, (2**31 - 1).to_bytes(4, "big") + bytes(4))
    assert message == (DATA, 0, id, framed(b"was on its way"))
    assert trailers[:3] == (HEADERS, END_HEADERS | END_STREAM, id)


@pytest.mark.parametrize("end", ["half_closed", "lost"])
def test_a_call_that_has_finished_still_hears_its_peer(end: str) -> None:
    peer = Peer()
    id = peer.open("Noted")
    call = peer.calls[0]
    peer.send(id, b"one")
    call.reply.finish()
    call.reply.finish()
    call.reply.send(b"too late")
    (trailers,) = frames(peer.taken())  # and no reset, which would stop the peer
    assert trailers[:3] == (HEADERS, END_HEADERS | END_STREAM, id)
    peer.send(id, b"was on its way")
    assert peer.server.streams == 1
    peer.server.feed(frame(DATA, END_STREAM, id, b"") if end == "half_closed" else frame(RST, 0, id, CANCEL))
    assert call.told == [("message", b"one"), ("message", b"was on its way"), (end, b"")]
    call.reply.end()
    assert (peer.taken(), peer.server.streams) == (b"", 0)


def test_a_reply_after_its_end_is_not_sent() -> None:
    peer = Peer()
    id = peer.open("Noted")
    reply = peer.calls[0].reply
    reply.send(b"one")
    reply.end(RESOURCE_EXHAUSTED, "enough")
    reply.end()
    reply.send(b"two")
    peer.exchange()
    assert (peer.got(id), peer.status(id)) == ([b"one"], RESOURCE_EXHAUSTED)
    assert dict(peer.of(id, TrailersReceived)[0].headers)["grpc-message"] == "enough"


def test_nothing_is_kept_of_ten_thousand_calls() -> None:
    peer = Peer()
    encoder = Encoder()
    methods = ["Echo", "First", "Noted", "Unknown", "Broken"]

    def some(first: int, last: int) -> None:
        for n in range(first, last):
            id, method = 2 * n + 1, methods[n % 5]
            block = encoder.encode(request_headers(method, [("n", str(n % 300))]))
            end = 0 if n % 3 == 0 or method == "Noted" else END_STREAM
            data = frame(HEADERS, END_HEADERS, id, block) + frame(DATA, end, id, framed(b"hello"))
            peer.server.feed(data if end else data + frame(RST, 0, id, CANCEL))
            peer.server.feed(frame(WINDOW, 0, 0, len(peer.taken()).to_bytes(4, "big")))
        peer.calls.clear()

    some(0, 1_000)
    before = held(peer.server)
    some(1_000, 11_000)
    assert peer.server.streams == 0
    assert held(peer.server) <= before + 1_000


def held(root: object) -> int:
    """Bytes of all that can be reached from the connection's attributes, apart from the handlers."""
    seen: set[int] = set()
    waiting = [value for name, value in vars(root).items() if name not in ("_handlers", "write")]
    total = 0
    while waiting:
        one = waiting.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        total += sys.getsizeof(one)
        if isinstance(one, dict):
            waiting += [*one.keys(), *one.values()]
        elif isinstance(one, list | tuple | set):
            waiting += one
        elif hasattr(one, "__dict__"):
            waiting += vars(one).values()
    return total
