"""gRPC's server side of HTTP/2 against what peers may do: any cut, any header block, any window, any garbage."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache

import hpack
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aion_extproc.extproc.grpc_call import Call, Reply
from aion_extproc.extproc.grpc_connection import Connection
from aion_extproc.extproc.http2 import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HAS_PRIORITY,
    HEADERS,
    INITIAL_WINDOW,
    MAX_FRAME,
    PADDED,
    PING,
    PREFACE,
    RST,
    SETTINGS,
    WINDOW,
    ProtocolError,
    frame,
    number,
)
from tests.support.grpc_peer import KINDS, Noted, Told, framed, frames, noting, request_headers, unframed

QUICK = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


def setting(*values: tuple[int, int]) -> bytes:
    return frame(SETTINGS, 0, 0, b"".join(key.to_bytes(2, "big") + number(value) for key, value in values))


# Cuts


@cache
def script() -> bytes:
    """All that a connection may hear from a peer that behaves, in bytes."""
    encode = hpack.Encoder().encode

    def headers(*more: tuple[str, str], method: str = "Echo") -> bytes:
        return encode(request_headers(method, more))

    first, long = headers(), headers(("name", "value"), ("other", "x" * 50))
    parts = [
        PREFACE + setting((INITIAL_WINDOW, 1 << 20)) + frame(SETTINGS, ACK, 0) + frame(WINDOW, 0, 0, number(1 << 20)),
        frame(HEADERS, END_HEADERS, 1, first) + frame(DATA, 0, 1, framed(b"one", b"two")[:9]),
        frame(HEADERS, PADDED | HAS_PRIORITY, 3, b"\2" + bytes(5) + long[:20] + bytes(2)),
        frame(CONTINUATION, 0, 3, long[20:30]) + frame(CONTINUATION, END_HEADERS, 3, long[30:]),
        frame(DATA, 0, 1, framed(b"one", b"two")[9:]) + frame(PING, 0, 0, b"12345678"),
        frame(DATA, PADDED, 3, b"\4" + framed(b"padded") + bytes(4)) + frame(2, 0, 3, bytes(5)),
        frame(HEADERS, END_HEADERS | END_STREAM, 5, headers()) + frame(200, 255, 5, b"of an unknown kind"),
        frame(HEADERS, END_HEADERS, 7, headers(method="First")) + frame(DATA, 0, 7, framed(b"x", b"y")),
        frame(HEADERS, END_HEADERS, 9, headers()) + frame(RST, 0, 9, number(8)) + frame(DATA, 0, 7, framed(b"late")),
        frame(HEADERS, END_HEADERS, 11, headers(method="Unknown")) + frame(DATA, END_STREAM, 1),
        frame(HEADERS, END_HEADERS | END_STREAM, 3, encode([("trailer", "1")])) + frame(GOAWAY, 0, 0, bytes(8)),
        frame(HEADERS, END_HEADERS, 13, headers(("name", "value"))) + frame(DATA, END_STREAM, 13, framed(b"", b"z")),
    ]
    return b"".join(parts)


def outcome(*pieces: bytes) -> tuple[list[list[Told]], bytes]:
    calls: list[Noted] = []
    out: list[bytes] = []
    server = Connection(noting(calls), out.append, 100)
    for piece in pieces:
        server.feed(piece)
    assert server.streams == 0
    return [call.told for call in calls], b"".join(out)


def test_the_script_does_what_it_says() -> None:
    told, out = outcome(script())
    assert told == [
        [("message", b"one"), ("message", b"two"), ("half_closed", b"")],
        [("message", b"padded"), ("half_closed", b"")],
        [("half_closed", b"")],
        [("message", b"x")],
        [("lost", b"")],
        [("message", b""), ("message", b"z"), ("half_closed", b"")],
    ]
    ends = [id for kind, flags, id, _ in frames(out) if kind == HEADERS and flags & END_STREAM]
    assert ends == [5, 7, 11, 1, 3, 13]
    assert [id for kind, _, id, _ in frames(out) if kind == RST] == [7, 11]


def test_every_place_to_cut_it_in_two() -> None:
    whole, all_ = outcome(script()), script()
    for at in range(len(all_) + 1):
        assert outcome(all_[:at], all_[at:]) == whole


def test_octet_by_octet() -> None:
    assert outcome(*(script()[at : at + 1] for at in range(len(script())))) == outcome(script())


@settings(QUICK)
@given(st.lists(st.integers(0, len(script())), max_size=30).map(sorted))
def test_every_way_to_cut_it(cuts: list[int]) -> None:
    pieces = [script()[start:end] for start, end in zip([0, *cuts], [*cuts, len(script())], strict=True)]
    assert outcome(*pieces) == outcome(script())


# Header blocks: with the cache of blocks, the answers are those of hpack's own decoder


class Seen:
    """What a connection says of header blocks. The path is always "/", which is in the static table."""

    def __init__(self) -> None:
        self.headers: list[dict[str, str]] = []
        self._server = Connection({"/": self._begin}, lambda _: None, 100)
        self._server.feed(PREFACE)
        self._id = -1

    def _begin(self, reply: Reply, headers: Mapping[str, str]) -> Call:
        self.headers.append(dict(headers))
        return Noted(reply, headers)

    def block(self, data: bytes) -> None:
        self._id += 2
        cancel = frame(RST, 0, self._id, number(8))
        self._server.feed(frame(HEADERS, END_HEADERS, self._id, data) + cancel)


FIELDS = st.tuples(
    st.sampled_from([":authority", "a", "b", "x-aion-phase", "accept"]), st.sampled_from(["", "1", "2", "response"])
)
LISTS = st.lists(FIELDS, max_size=5)


@settings(QUICK, max_examples=300)
@given(
    pool=st.lists(LISTS, min_size=1, max_size=3),
    turns=st.lists(
        st.tuples(st.integers(0, 2), st.booleans(), st.none() | st.sampled_from([0, 40, 80, 4096])),
        min_size=1,
        max_size=25,
    ),
)
def test_headers_are_what_was_encoded(
    pool: list[list[tuple[str, str]]], turns: list[tuple[int, bool, int | None]]
) -> None:
    encoder, seen, expected = hpack.Encoder(), Seen(), []
    for which, huffman, size in turns:
        if size is not None:
            encoder.header_table_size = size
        headers = [(":path", "/"), *pool[which % len(pool)]]
        seen.block(encoder.encode(headers, huffman=huffman))
        expected.append(dict(headers))
    assert seen.headers == expected


def literal(first: int, name: bytes, value: bytes) -> bytes:
    return bytes((first, len(name))) + name + bytes((len(value),)) + value


SHORT = st.sampled_from([b"a", b"b", b"xyz", b"0123456789" * 8])
ATOMS = st.one_of(
    st.integers(0x80, 0xFE).map(lambda octet: bytes((octet,))),
    st.integers(62, 70).map(lambda index: bytes((0x80 | index,))),  # the newest of the dynamic table
    st.integers(0, 60).map(lambda more: bytes((0xFF, more))),
    st.builds(literal, st.sampled_from([0x40, 0x00, 0x10]), SHORT, SHORT),
    st.builds(lambda index, value: bytes((0x40 | index, len(value))) + value, st.integers(5, 62), SHORT),
    st.binary(min_size=1, max_size=3),
)
SIZES = st.sampled_from([b"", b"", b"", b"", b"\x20", b"\x3f\x21", b"\x3f\xe1\x1f"])  # 0, 64, 4096
BLOCKS = st.builds(lambda size, atoms: size + b"\x84" + b"".join(atoms), SIZES, st.lists(ATOMS, max_size=4))


@settings(QUICK, max_examples=500)
@given(pool=st.lists(BLOCKS, min_size=1, max_size=4), turns=st.lists(st.integers(0, 3), min_size=1, max_size=20))
def test_blocks_of_all_kinds_say_what_hpack_says(pool: list[bytes], turns: list[int]) -> None:
    decoder, seen, expected = hpack.Decoder(), Seen(), []
    for which in turns:
        block = pool[which % len(pool)]
        try:
            headers = {str(name): str(value) for name, value in decoder.decode(block)}
        except hpack.HPACKError:
            with pytest.raises(ProtocolError):
                seen.block(block)
            break
        seen.block(block)
        if headers[":path"] == "/":
            expected.append(headers)
    assert seen.headers == expected


# Windows, by a model of their rules


@dataclass
class Model:
    """What the peer allows, by our own acknowledgements of its settings; and what it got."""

    window: int = 65_535
    first: int = 65_535
    largest: int = 16_384
    windows: dict[int, int] = field(default_factory=dict)
    said: list[dict[int, int]] = field(default_factory=list)  # settings that wait for their acknowledgement
    data: dict[int, bytes] = field(default_factory=dict)
    ended: set[int] = field(default_factory=set)

    def read(self, out: bytes) -> None:
        for kind, flags, id, payload in frames(out):
            if kind == SETTINGS and flags & ACK:
                new = self.said.pop(0)
                change = new.get(INITIAL_WINDOW, self.first) - self.first
                self.first += change
                self.windows = {id: window + change for id, window in self.windows.items()}
                self.largest = new.get(MAX_FRAME, self.largest)
            elif kind == DATA:
                assert id not in self.ended
                assert 0 < len(payload) <= min(self.window, self.windows[id], self.largest)
                self.window -= len(payload)
                self.windows[id] -= len(payload)
                self.data[id] = self.data.get(id, b"") + payload
            elif kind == HEADERS and flags & END_STREAM:
                self.ended.add(id)


STREAMS = (1, 3, 5)
SIZE = st.sampled_from([0, 1, 5, 100, 16_379, 16_380, 30_000, 65_530, 65_531, 70_000, 200_000])
MORE = st.sampled_from([1, 2, 1_000, 16_384, 65_535, 100_000])
STREAM = st.sampled_from(STREAMS)
STEPS = st.one_of(
    st.tuples(st.just("message"), STREAM, SIZE),
    st.tuples(st.just("end"), STREAM, st.just(0)),
    st.tuples(st.just("window"), st.sampled_from((0, *STREAMS)), MORE),
    st.tuples(st.just("first"), st.just(0), st.sampled_from([0, 1, 10_000, 65_535, 150_000])),
    st.tuples(st.just("largest"), st.just(0), st.sampled_from([16_384, 20_000, 100_000])),
)


@settings(QUICK, max_examples=200)
@given(st.lists(STEPS, max_size=25))
def test_never_more_than_allowed_and_all_of_it_when_it_is(steps: list[tuple[str, int, int]]) -> None:
    calls: list[Noted] = []
    out: list[bytes] = []
    server = Connection(noting(calls), out.append, 1 << 20)
    model, encode = Model(), hpack.Encoder().encode
    server.feed(PREFACE)
    for id in STREAMS:
        server.feed(frame(HEADERS, END_HEADERS, id, encode(request_headers("Noted"))))
        model.windows[id] = model.first
    said: dict[int, list[bytes]] = {id: [] for id in STREAMS}
    ended: set[int] = set()
    opening = [("window", 0, 1 << 30), ("first", 0, 1 << 22)]
    for n, (what, id, size) in enumerate([*steps, *opening]):
        call = calls[STREAMS.index(id)] if id else None
        if what == "message" and call and id not in ended:
            message = bytes((n,)) * size
            said[id].append(message)
            call.reply.send(message)
        elif what == "end" and call:
            ended.add(id)
            call.reply.end()
        elif what == "window":
            if id:
                model.windows[id] += size
            else:
                model.window += size
            server.feed(frame(WINDOW, 0, id, number(size)))
        elif what in ("first", "largest"):
            key = INITIAL_WINDOW if what == "first" else MAX_FRAME
            model.said.append({key: size})
            server.feed(setting((key, size)))
        model.read(b"".join(out))
        out.clear()
        for one in STREAMS:
            waits = len(framed(*said[one])) - len(model.data.get(one, b""))
            assert not waits or min(model.window, model.windows[one]) <= 0, "nothing waits that may go"
            assert (one in model.ended) == (one in ended and not waits)
    assert {id: unframed(model.data.get(id, b"")) for id in STREAMS} == said
    assert server.streams == len(STREAMS) - len(ended)


# Garbage


def quietly(data: bytes) -> None:
    """Nothing but ProtocolError, nothing kept, no call told anything after its end, and frames are what is written."""
    calls: list[Noted] = []
    out: list[bytes] = []
    server = Connection(noting(calls), out.append, 1_000)
    server.begin()
    try:
        server.feed(data)
    except ProtocolError as error:
        server.fail(error)
    server.lost()
    assert server.streams == 0
    frames(b"".join(out))
    for call in calls:
        assert call.count("lost") <= 1
        assert call.count("half_closed") <= 1
        assert "lost" not in [kind for kind, _ in call.told[:-1]]


@settings(QUICK)
@given(st.binary(max_size=200))
def test_bytes_that_are_not_http2(data: bytes) -> None:
    quietly(data)
    quietly(PREFACE + data)


@cache
def blocks() -> list[bytes]:
    encoder = hpack.Encoder()
    methods = [path.rpartition("/")[2] for path in KINDS]
    return [encoder.encode(request_headers(method)) for method in [*methods, *methods, "Unknown"]]


IDS = st.sampled_from([0, 1, 2, 3, 5, 7, 2**31 - 1, 2**31 + 1, 2**32 - 1]) | st.integers(0, 2**32 - 1)
PAYLOADS = st.one_of(
    st.binary(max_size=12),
    st.sampled_from(blocks()),
    st.lists(st.binary(max_size=20), max_size=3).map(lambda messages: framed(*messages)),
    st.builds(lambda flag, length: bytes((flag,)) + number(length), st.integers(0, 2), st.integers(0, 2_000)),
    st.integers(0, 2**32 - 1).map(number),
    st.builds(lambda key, value: key.to_bytes(2, "big") + number(value), st.integers(1, 6), st.integers(0, 2**32 - 1)),
    st.builds(lambda padding, data: bytes((padding,)) + data, st.integers(0, 30), st.sampled_from(blocks())),
)
KIND = st.sampled_from([DATA, DATA, HEADERS, HEADERS, RST, SETTINGS, PING, GOAWAY, WINDOW, CONTINUATION, 2, 5, 77])
FLAGS = st.sampled_from([0, END_STREAM, END_HEADERS, END_STREAM | END_HEADERS, PADDED]) | st.integers(0, 255)


@settings(QUICK, max_examples=500)
@given(st.lists(st.builds(frame, KIND, FLAGS, IDS, PAYLOADS), max_size=12))
def test_frames_that_make_no_sense(sent: list[bytes]) -> None:
    quietly(PREFACE + b"".join(sent))


@settings(QUICK, max_examples=300)
@given(st.data())
def test_a_good_connection_with_some_octets_changed(data: st.DataObject) -> None:
    spoiled = bytearray(script())
    for at in data.draw(st.lists(st.integers(len(PREFACE), len(spoiled) - 1), min_size=1, max_size=4)):
        spoiled[at] = data.draw(st.integers(0, 255))
    quietly(bytes(spoiled))
