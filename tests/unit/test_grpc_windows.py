"""Flow control of gRPC's server side: never more than the peer allows, and all of it once it does."""

from __future__ import annotations

import itertools

import pytest
from h2.events import DataReceived
from h2.settings import SettingCodes

from aion_extproc.extproc.grpc_call import OK
from aion_extproc.extproc.http2 import (
    ACK,
    DATA,
    FLOW_ERROR,
    FRAME_SIZE_ERROR,
    INITIAL_WINDOW,
    MAX_FRAME,
    PROTOCOL_ERROR,
    SETTINGS,
    WINDOW,
    ProtocolError,
    frame,
)
from tests.support.grpc_peer import Peer, framed, frames, unframed


def text(size: int, start: int = 0) -> bytes:
    """Bytes of which no two places look the same."""
    return b"".join(n.to_bytes(4, "big") for n in range(start, start + (size + 3) // 4))[:size]


def setting(*values: tuple[int, int]) -> bytes:
    return frame(SETTINGS, 0, 0, b"".join(key.to_bytes(2, "big") + value.to_bytes(4, "big") for key, value in values))


def more(id: int, size: int) -> bytes:
    return frame(WINDOW, 0, id, size.to_bytes(4, "big"))


def sent(peer: Peer) -> dict[int, bytes]:
    """The data that we have written since, by stream, in place of h2."""
    found: dict[int, bytes] = {}
    for kind, _, id, payload in frames(peer.taken()):
        if kind == DATA:
            found[id] = found.get(id, b"") + payload
    return found


def test_nothing_more_than_the_connections_window_and_the_rest_in_order() -> None:
    peer = Peer(reading=False)
    messages = [text(50_000, start) for start in range(4)]
    id = peer.open("Echo")
    peer.send(id, *messages, end=True)
    assert peer.body(id) == framed(*messages)[:65_535]
    assert peer.status(id) is None
    for step in itertools.cycle([1, 7_000, 20_000, 16_384]):
        if peer.status(id) is not None:
            break
        before = len(peer.body(id))
        peer.h2.increment_flow_control_window(step)
        peer.exchange()
        assert len(peer.body(id)) == before  # the stream's own window is still shut
        peer.h2.increment_flow_control_window(step, id)
        peer.exchange()
        assert len(peer.body(id)) == min(before + step, len(framed(*messages)))
    assert (peer.got(id), peer.status(id), peer.server.streams) == (messages, OK, 0)


def test_streams_that_wait_for_the_connection_all_get_theirs() -> None:
    peer = Peer(reading=False)
    peer.settings({SettingCodes.INITIAL_WINDOW_SIZE: 1 << 20})
    ids = [peer.open("Echo") for _ in range(5)]
    for n, id in enumerate(ids):
        peer.send(id, text(40_000, n), text(10, n), end=n % 2 == 0)
    while sum(len(peer.body(id)) for id in ids) < 5 * 40_020:
        peer.h2.increment_flow_control_window(30_000)
        peer.exchange()
    assert [peer.got(id) for id in ids] == [[text(40_000, n), text(10, n)] for n in range(5)]
    assert [peer.status(id) for id in ids] == [OK, None, OK, None, OK]
    assert peer.server.streams == 2


def test_a_stream_that_waits_for_its_own_window_keeps_no_other_waiting() -> None:
    peer = Peer(reading=False)
    peer.h2.increment_flow_control_window(1 << 20)
    slow, quick = peer.open("Echo"), peer.open("Echo")
    peer.send(slow, bytes(100_000), end=True)
    peer.send(quick, bytes(50_000), end=True)
    assert (peer.status(slow), peer.status(quick)) == (None, OK)


def test_a_small_first_window() -> None:
    peer = Peer()
    peer.settings({SettingCodes.INITIAL_WINDOW_SIZE: 1})
    id = peer.open("Echo")
    peer.send(id, b"hello", b"", b"world", end=True)
    assert (peer.got(id), peer.status(id)) == ([b"hello", b"", b"world"], OK)
    assert max(len(event.data) for event in peer.of(id, DataReceived)) == 1


def test_frames_as_large_as_the_peer_takes_them() -> None:
    peer = Peer()
    for size in (16_384, 70_000, 16_385):
        peer.settings({SettingCodes.MAX_FRAME_SIZE: size, SettingCodes.INITIAL_WINDOW_SIZE: 1 << 20})
        peer.h2.increment_flow_control_window(1 << 20)
        peer.exchange()
        id = peer.open("Echo")
        peer.send(id, text(200_000), end=True)
        assert (peer.got(id), peer.status(id)) == ([text(200_000)], OK)
        assert max(len(event.data) for event in peer.of(id, DataReceived)) == size


def test_settings_count_from_their_acknowledgement() -> None:
    """What waits leaves behind it: the peer may hold us to its old settings until then (h2 does)."""
    peer = Peer(reading=False)
    peer.h2.increment_flow_control_window(1 << 20)
    id = peer.open("Echo")
    peer.send(id, text(200_000), end=True)
    peer.settings({SettingCodes.INITIAL_WINDOW_SIZE: 150_000, SettingCodes.MAX_FRAME_SIZE: 100_000})
    assert len(peer.body(id)) == 150_000
    assert len(peer.of(id, DataReceived)[-1].data) == 150_000 - 65_535  # all settings of a frame count together
    peer.settings({SettingCodes.INITIAL_WINDOW_SIZE: 300_000})
    assert (peer.got(id), peer.status(id)) == ([text(200_000)], OK)


def test_a_first_window_that_shrinks_below_what_was_sent() -> None:
    peer = Peer(reading=False)
    peer.raw(more(0, 1 << 20))
    id, other = peer.open("Echo"), peer.open("Echo")
    data = framed(text(100_000))
    peer.data(id, data[:16_384])
    for at in range(16_384, len(data), 16_384):
        peer.server.feed(frame(DATA, 0, id, data[at : at + 16_384]))
    assert sent(peer) == {id: data[:65_535]}
    peer.server.feed(setting((INITIAL_WINDOW, 10_000)))  # 55,535 below nothing
    peer.server.feed(more(id, 55_535))
    assert sent(peer) == {}
    peer.server.feed(more(id, 1))
    assert sent(peer) == {id: data[65_535:65_536]}
    peer.server.feed(frame(DATA, 0, other, framed(bytes(10_000))))
    assert sent(peer) == {other: framed(bytes(10_000))[:10_000]}
    peer.server.feed(setting((INITIAL_WINDOW, 0), (INITIAL_WINDOW, 10_002)))
    assert sent(peer) == {id: data[65_536:65_538], other: framed(bytes(10_000))[10_000:10_002]}
    peer.server.feed(setting((INITIAL_WINDOW, 65_535)))
    assert unframed(data[:65_538] + sent(peer)[id]) == [text(100_000)]


def test_what_waits_counts_before_what_is_said_later() -> None:
    peer = Peer(reading=False)
    id = peer.open("Noted")
    reply = peer.calls[0].reply
    reply.send(text(70_000))
    reply.send(b"small enough for the window, were it not for the first")
    peer.server.feed(more(0, 4_473))
    peer.server.feed(more(id, 4_469))
    reply.send(b"x")
    reply.end()
    peer.server.feed(more(id, 1_000))
    data = sent(peer)[id]
    assert framed(text(70_000), b"small enough for the window, were it not for the first", b"x").startswith(data)
    assert len(data) == 70_008


def test_a_peer_that_sends_100_mb_never_stalls() -> None:
    peer = Peer(limit=1 << 20)
    id = peer.open("Noted")
    for _ in range(100):
        peer.send(id, bytes(1_000_000))  # fails when a window stays shut
        assert peer.calls[0].count("message") == 1
        peer.calls[0].told.clear()
    assert peer.h2.remote_flow_control_window(id) >= 65_535


def test_padding_counts_for_the_windows() -> None:
    peer = Peer()
    id = peer.open("Noted")
    for _ in range(80_000):  # 20 MB of padding
        peer.h2.send_data(id, b"", pad_length=255)
        if peer.h2.local_flow_control_window(id) < 1_000:
            peer.exchange()
            assert peer.h2.local_flow_control_window(id) > 1_000
    peer.send(id, b"hello")
    assert peer.calls[0].told == [("message", b"hello")]


def test_a_large_answer_in_small_frames_takes_linear_time() -> None:
    """64 MB in frames of 16 kB: copying what is left for each of them would be 130 GB."""
    peer = Peer()
    peer.raw(setting((INITIAL_WINDOW, 2**31 - 1)) + more(0, 2**31 - 1 - 65_535))
    peer.taken()
    id = peer.open("Noted")
    message = bytes(64 << 20)
    peer.calls[0].reply.send(message)
    sizes = [size for size, kind in written(peer.taken(), id) if kind == DATA]
    assert sum(sizes) == len(message) + 5
    assert max(sizes) == 16_384


def written(data: bytes, id: int) -> list[tuple[int, int]]:
    """Size and kind of the stream's frames."""
    view, found, at = memoryview(data), [], 0
    while at < len(view):
        size = int.from_bytes(view[at : at + 3], "big")
        if int.from_bytes(view[at + 5 : at + 9], "big") == id:
            found.append((size, view[at + 3]))
        at += 9 + size
    return found


@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        (more(0, 2**31 - 1), FLOW_ERROR),
        (setting((INITIAL_WINDOW, 2**31)), FLOW_ERROR),
        (setting((MAX_FRAME, 16_383)), PROTOCOL_ERROR),
        (setting((MAX_FRAME, 0)), PROTOCOL_ERROR),
        (setting((MAX_FRAME, 1 << 24)), PROTOCOL_ERROR),
        (frame(SETTINGS, 0, 0, bytes(7)), FRAME_SIZE_ERROR),
        (frame(WINDOW, 0, 0, bytes(3)), FRAME_SIZE_ERROR),
        (frame(WINDOW, 0, 0, bytes(5)), FRAME_SIZE_ERROR),
    ],
)
def test_windows_and_settings_that_cannot_be(wrong: bytes, code: int) -> None:
    peer = Peer()
    with pytest.raises(ProtocolError) as raised:
        peer.server.feed(wrong)
    assert raised.value.code == code
    assert peer.taken() == b""


def test_the_largest_settings_are_taken() -> None:
    peer = Peer()
    peer.server.feed(setting((INITIAL_WINDOW, 2**31 - 1), (MAX_FRAME, 2**24 - 1)) + more(0, 2**31 - 1 - 65_535))
    assert peer.taken() == frame(SETTINGS, ACK, 0)
    id = peer.open("Noted")
    message = bytes(20_000_000)
    peer.calls[0].reply.send(message)
    assert [size for size, kind in written(peer.taken(), id) if kind == DATA] == [2**24 - 1, 20_000_005 - 2**24 + 1]
