"""gRPC's server side of an HTTP/2 connection, without sockets: the h2 library is the peer."""

from __future__ import annotations

import pytest
from h2.events import DataReceived, PingAckReceived, TrailersReceived
from h2.settings import SettingCodes
from hpack import Encoder

from aion_extproc.extproc.grpc_call import OK
from aion_extproc.extproc.grpc_connection import Connection
from aion_extproc.extproc.http2 import (
    ACK,
    COMPRESSION_ERROR,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    FRAME_SIZE_ERROR,
    HAS_PRIORITY,
    HEADERS,
    PADDED,
    PING,
    PREFACE,
    PROTOCOL_ERROR,
    REFUSED,
    RST,
    SETTINGS,
    TOO_MUCH,
    WINDOW,
    ProtocolError,
    frame,
)
from tests.support.grpc_peer import Noted, Peer, framed, frames, noting, request_headers

CANCEL = (8).to_bytes(4, "big")


def test_a_unary_call() -> None:
    peer = Peer()
    id = peer.open("Echo")
    peer.data(id, framed(b"hello"), end=True)
    assert peer.got(id) == [b"hello"]
    assert peer.status(id) == OK
    assert peer.resets(id) == []  # both sides had ended
    assert peer.calls[0].told == [("message", b"hello"), ("half_closed", b"")]
    assert peer.calls[0].headers == dict(request_headers("Echo"))
    assert peer.server.streams == 0


def test_a_unary_call_that_is_answered_before_its_half_close_is_told() -> None:
    """The end of the peer's side came in the same frame: there is nothing to reset."""
    peer = Peer()
    id = peer.open("First")
    peer.server.feed(frame(DATA, END_STREAM, id, framed(b"hello")))
    assert [kind for kind, *_ in frames(peer.taken())] == [HEADERS, DATA, HEADERS]
    assert (peer.calls[0].told, peer.server.streams) == ([("message", b"hello")], 0)


def test_a_call_without_a_message() -> None:
    peer = Peer()
    id = peer.open("Echo", end=True)
    assert (peer.got(id), peer.status(id), peer.server.streams) == ([], OK, 0)
    assert peer.of(id, TrailersReceived) == []  # all in one block
    assert peer.calls[0].told == [("half_closed", b"")]


def test_messages_each_way_until_the_peer_ends() -> None:
    peer = Peer()
    id = peer.open("Echo")
    for n in range(5):
        peer.send(id, b"%d" % n)
        assert peer.got(id)[-1] == b"%d" % n
    assert peer.status(id) is None
    peer.h2.end_stream(id)
    peer.exchange()
    assert peer.got(id) == [b"0", b"1", b"2", b"3", b"4"]
    assert (peer.status(id), peer.server.streams) == (OK, 0)


def test_streams_in_turns() -> None:
    peer = Peer()
    ids = [peer.open("Echo") for _ in range(4)]
    message = b"0123456789" * 3
    for at, octet in enumerate(framed(message, b"", message)):  # an octet of each, again and again
        for n, id in enumerate(ids):
            # The others lag behind by some octets, so that no two are at the same place.
            peer.data(id, bytes((octet,)) if n == 0 else framed(message, b"", message)[at : at + 1])
    for id in reversed(ids):
        peer.h2.end_stream(id)
    peer.exchange()
    assert [peer.got(id) for id in ids] == [[message, b"", message]] * 4
    assert [peer.status(id) for id in ids] == [OK] * 4
    assert peer.server.streams == 0


def test_every_place_to_split_messages_into_frames() -> None:
    data = framed(b"first", b"", b"x", b"last one")
    for first in range(len(data) + 1):
        for second in range(first, len(data) + 1):
            calls: list[Noted] = []
            server = Connection(noting(calls), lambda _: None, 100)
            headers = Encoder().encode(request_headers("Noted"))
            parts = (data[:first], data[first:second], data[second:])
            split = b"".join(frame(DATA, 0, 1, part) for part in parts)
            server.feed(PREFACE + frame(HEADERS, END_HEADERS, 1, headers) + split)
            assert calls[0].messages == [b"first", b"", b"x", b"last one"]


def test_what_is_told_while_a_message_is_not_whole() -> None:
    peer = Peer()
    id = peer.open("Noted")
    data = framed(b"hello", b"world")
    for at in range(len(data)):
        peer.data(id, data[at : at + 1])
        assert peer.calls[0].messages == [b"hello", b"world"][: (at + 1) // 10]


def test_padded_frames() -> None:
    peer = Peer()
    id = peer.open("Echo")
    data = framed(b"padded", b"", b"more")
    for at in range(0, len(data), 3):
        peer.data(id, data[at : at + 3], padding=(at * 37) % 256)
    peer.data(id, b"", padding=0)
    peer.data(id, b"", padding=255, end=True)
    assert peer.got(id) == [b"padded", b"", b"more"]
    assert peer.status(id) == OK


def test_priorities_are_passed_by() -> None:
    peer = Peer()
    id = peer.open("Echo", priority_weight=7, priority_depends_on=0, priority_exclusive=True)
    peer.h2.prioritize(id, weight=200)
    peer.data(id, framed(b"hello"), end=True)
    assert (peer.got(id), peer.status(id)) == ([b"hello"], OK)


def test_headers_in_continuations() -> None:
    peer = Peer()
    long = "x" * 40_000  # more than h2 puts in a frame
    id = peer.open("Echo", ("long", long))
    peer.data(id, framed(b"hello"), end=True)
    assert peer.calls[0].headers["long"] == long
    assert peer.status(id) == OK


def test_every_place_to_split_a_header_block() -> None:
    block = Encoder().encode(request_headers("Noted", [("a", "1"), ("b", "2")]))
    padded_with_priority = b"\x03" + bytes(5)
    for at in range(len(block) + 1):
        peer = Peer()
        first = padded_with_priority + block[:at] + bytes(3)
        flags = PADDED | HAS_PRIORITY | END_STREAM
        rest = frame(CONTINUATION, 0, 1, block[at : at + 1]) + frame(CONTINUATION, END_HEADERS, 1, block[at + 1 :])
        peer.server.feed(frame(HEADERS, flags, 1, first) + rest)
        assert peer.calls[0].headers == dict(request_headers("Noted", [("a", "1"), ("b", "2")]))
        assert peer.calls[0].told == [("half_closed", b"")]


def test_trailers_of_the_peers_end_its_side() -> None:
    peer = Peer()
    id = peer.open("Echo")
    peer.send(id, b"hello")
    peer.h2.send_headers(id, [("x-trailer", "1")], end_stream=True)
    peer.exchange()
    assert peer.calls[0].told == [("message", b"hello"), ("half_closed", b"")]
    assert (peer.status(id), peer.server.streams) == (OK, 0)


def test_calls_with_the_same_headers_and_with_others_in_between() -> None:
    peer = Peer()
    asked = [("a", "1"), ("a", "1"), ("a", "2"), ("a", "1"), ("b", "1"), ("a", "2"), ("a", "2"), ("b", "1")]
    for header in asked:
        peer.open("Echo", header, end=True)
    assert [list(call.headers.items())[-1] for call in peer.calls] == asked


def test_the_table_of_headers_shrinks_and_grows() -> None:
    peer = Peer()
    for size in (4096, 4096, 0, 0, 100, 4096, 4096):
        peer.h2.encoder.header_table_size = size
        for value in ("1", "1", "2", "1"):
            peer.open("Echo", ("name", value), end=True)
            assert peer.calls[-1].headers["name"] == value


def test_pings_are_answered_and_acknowledgements_are_not() -> None:
    peer = Peer()
    peer.h2.ping(b"12345678")
    peer.exchange()
    assert [event.ping_data for event in peer.events if isinstance(event, PingAckReceived)] == [b"12345678"]
    written = len(peer.events)
    peer.raw(frame(PING, ACK, 0, bytes(8)) + frame(SETTINGS, ACK, 0))
    assert len(peer.events) == written


def test_more_calls_at_once_than_we_take() -> None:
    peer = Peer()
    block = Encoder().encode(request_headers("Noted"))
    for id in range(1, 20_001, 2):
        peer.server.feed(frame(HEADERS, END_HEADERS, id, block))
    assert peer.server.streams == 10_000
    assert peer.taken() == b""
    peer.server.feed(frame(HEADERS, END_HEADERS, 20_001, block))
    assert peer.taken() == frame(RST, 0, 20_001, REFUSED.to_bytes(4, "big"))
    peer.server.feed(frame(RST, 0, 1, CANCEL) + frame(HEADERS, END_HEADERS, 20_003, block))
    assert (peer.server.streams, len(peer.calls)) == (10_000, 10_001)
    assert peer.h2.remote_settings[SettingCodes.MAX_CONCURRENT_STREAMS] == 10_000


def test_h2_saw_data_frames_only_of_whole_answers() -> None:
    """An answer that fits leaves in one frame: Envoy is woken once."""
    peer = Peer()
    id = peer.open("Echo")
    peer.send(id, b"x" * 1000, b"y" * 1000)
    assert [len(event.data) for event in peer.of(id, DataReceived)] == [1005, 1005]


def test_blocks_that_change_the_table_without_adding_to_it() -> None:
    """What a block said before is not asked again of the table, unless another has changed it since."""
    path = literal(b":path", b"/t.T/Noted")
    sizes = {64: b"\x3f\x21", 4096: b"\x3f\xe1\x1f", 37: b"\x3f\x06"}

    def after(*blocks: bytes) -> dict[str, str]:
        peer = Peer()
        for n, block in enumerate(blocks):
            peer.server.feed(frame(HEADERS, END_HEADERS, 2 * n + 1, block))
        return peer.calls[-1].headers

    # Larger, smaller, larger again: there is room for two.
    grown = (sizes[4096] + b"\x84", sizes[64] + b"\x84", sizes[4096] + b"\x84", path, literal(b"a", b"1"), b"\xbf\xbe")
    assert after(*grown) == {":path": "/t.T/Noted", "a": "1"}
    # Only the oldest leaves, by a size that is taken back at once.
    with pytest.raises(ProtocolError):
        after(path, literal(b"a", b"1"), b"\xbf\xbe", sizes[37] + sizes[4096] + b"\xbe", b"\xbf\xbe")


def literal(name: bytes, value: bytes) -> bytes:
    """A header that enters the table."""
    return b"\x40" + bytes((len(name),)) + name + bytes((len(value),)) + value


def test_a_large_message_in_small_frames_takes_linear_time() -> None:
    """16 MB in frames of 256 bytes: joining what there is for each of them would be 500 GB."""
    peer = Peer(limit=1 << 24)
    peer.server.feed(frame(HEADERS, END_HEADERS, 1, Encoder().encode(request_headers("Noted"))))
    data = framed(bytes(1 << 24))
    peer.server.feed(b"".join(frame(DATA, 0, 1, data[at : at + 256]) for at in range(0, len(data), 256)))
    assert peer.calls[0].messages == [bytes(1 << 24)]


BLOCK = Encoder().encode(request_headers("Noted"))


@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        (frame(DATA, 0, 0, b"x"), PROTOCOL_ERROR),
        (frame(DATA, 0, 3, b"x"), PROTOCOL_ERROR),  # not opened
        (frame(DATA, PADDED, 1, b"\1"), PROTOCOL_ERROR),
        (frame(DATA, PADDED, 1, b""), PROTOCOL_ERROR),
        (frame(DATA, END_STREAM, 1) * 2, PROTOCOL_ERROR),
        (frame(DATA, END_STREAM, 1) + frame(HEADERS, END_HEADERS | END_STREAM, 1, b"\x84"), PROTOCOL_ERROR),
        (frame(HEADERS, END_HEADERS, 0, BLOCK), PROTOCOL_ERROR),
        (frame(HEADERS, END_HEADERS, 4, BLOCK), PROTOCOL_ERROR),
        (frame(HEADERS, END_HEADERS, 3, b"\xfe"), COMPRESSION_ERROR),
        (frame(HEADERS, END_HEADERS, 3, b"\x40\x01\xff\x01a"), COMPRESSION_ERROR),  # not UTF-8
        (frame(HEADERS, END_HEADERS, 3, b"\xff" * 100_000), TOO_MUCH),
        (frame(HEADERS, END_HEADERS, 3, literal(b"name", b"x" * 100) + b"\xbe" * 1_000), COMPRESSION_ERROR),  # 141 kB
        (frame(HEADERS, 0, 3, BLOCK) + frame(CONTINUATION, END_HEADERS, 5), PROTOCOL_ERROR),
        (frame(HEADERS, 0, 3, BLOCK) + frame(PING, 0, 0, bytes(8)), PROTOCOL_ERROR),
        (frame(HEADERS, 0, 3, BLOCK) + frame(CONTINUATION, 0, 3, bytes(10_000)) * 7, TOO_MUCH),
        (frame(CONTINUATION, END_HEADERS, 1, BLOCK), PROTOCOL_ERROR),
        (frame(PING, 0, 0, bytes(7)), FRAME_SIZE_ERROR),
        (frame(RST, 0, 1, bytes(5)), FRAME_SIZE_ERROR),
        (frame(77, 0, 1, bytes((256 << 10) + 1))[:9], FRAME_SIZE_ERROR),
    ],
)
def test_what_no_peer_may_send(wrong: bytes, code: int) -> None:
    peer = Peer()
    peer.server.feed(frame(HEADERS, END_HEADERS, 1, BLOCK))
    with pytest.raises(ProtocolError) as raised:
        peer.server.feed(wrong)
    assert raised.value.code == code
    assert (len(peer.calls), peer.server.streams) == (1, 1)


def test_a_stream_before_the_last_one_is_taken_for_one_that_has_ended() -> None:
    peer = Peer()
    peer.server.feed(frame(HEADERS, END_HEADERS, 2**31 - 1, BLOCK) + frame(HEADERS, END_HEADERS, 5, b"\x84"))
    peer.server.feed(frame(DATA, 0, 5, framed(b"x")) + frame(WINDOW, 0, 5, CANCEL) + frame(RST, 0, 5, CANCEL))
    assert (len(peer.calls), peer.server.streams, peer.taken()) == (1, 1, b"")


@pytest.mark.parametrize("first", [b"GET / HTTP/1.1\r\n", PREFACE[:-1] + b"_", b"\0"])
def test_a_preface_of_something_else(first: bytes) -> None:
    with pytest.raises(ProtocolError):
        Connection({}, lambda _: None, 100).feed(first)
    server = Connection({}, lambda _: None, 100)
    server.feed(PREFACE[:1])
    with pytest.raises(ProtocolError):
        server.feed(first)
