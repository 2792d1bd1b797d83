"""Bedrock's event streams, written by an encoder of the test's own that AWS's parser is asked about."""

from __future__ import annotations

import base64
import json
import struct
import zlib
from typing import Any

import pytest
from botocore.eventstream import EventStreamBuffer  # type: ignore[import-untyped]
from hypothesis import given, settings
from hypothesis import strategies as st

from aion_extproc.wire.eventstream import EventStreamToSse
from aion_extproc.wire.sse import SseReader
from tests.support.aws_frames import chunk, exception, frame

EVENTS: list[dict[str, Any]] = [
    {"type": "message_start", "message": {"id": "msg_1", "usage": {"input_tokens": 3, "output_tokens": 1}}},
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    {"type": "ping"},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "héllo\n\"😀\""}},
    {"type": "content_block_stop", "index": 0},
    {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 7}},
    {"type": "message_stop", "amazon-bedrock-invocationMetrics": {"inputTokenCount": 3}},
]
STREAM = b"".join(map(chunk, EVENTS))


def whole(data: bytes) -> bytes:
    decoder = EventStreamToSse()
    return decoder.feed(data) + decoder.finish()


def said(sse: bytes) -> list[dict[str, Any]]:
    reader = SseReader()
    events = [*reader.feed(sse), *reader.finish()]
    assert all(json.loads(event.data)["type"].encode() == event.type for event in events)
    return [json.loads(event.data) for event in events]


def error(data: bytes) -> dict[str, Any]:
    last = said(whole(data))[-1]
    assert last["type"] == "error"
    return dict(last["error"])


def test_the_encoder_writes_what_aws_reads() -> None:
    buffer = EventStreamBuffer()
    buffer.add_data(STREAM + exception("throttlingException", "slow down"))
    messages = list(buffer)
    assert [message.headers[":message-type"] for message in messages] == ["event"] * 7 + ["exception"]
    assert [json.loads(base64.b64decode(json.loads(m.payload)["bytes"])) for m in messages[:-1]] == EVENTS


def test_each_chunk_becomes_the_event_that_anthropic_would_have_sent() -> None:
    assert said(whole(STREAM)) == EVENTS
    assert whole(STREAM).startswith(b'event: message_start\ndata: {"type": "message_start"')


def test_every_place_to_cut_it_in_two() -> None:
    expected = whole(STREAM)
    for at in range(len(STREAM) + 1):
        decoder = EventStreamToSse()
        assert decoder.feed(STREAM[:at]) + decoder.feed(STREAM[at:]) + decoder.finish() == expected


@settings(deadline=None)
@given(st.lists(st.integers(0, len(STREAM)), max_size=30).map(sorted))
def test_every_way_to_cut_it(cuts: list[int]) -> None:
    decoder, out = EventStreamToSse(), b""
    for start, end in zip([0, *cuts], [*cuts, len(STREAM)], strict=True):
        out += decoder.feed(STREAM[start:end])
    assert out + decoder.finish() == whole(STREAM)


def test_an_event_is_out_as_soon_as_it_is_in() -> None:
    decoder = EventStreamToSse()
    assert said(decoder.feed(chunk(EVENTS[0]) + chunk(EVENTS[1])[:5])) == EVENTS[:1]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("throttlingException", "rate_limit_error"),
        ("serviceUnavailableException", "overloaded_error"),
        ("validationException", "invalid_request_error"),
        ("modelTimeoutException", "timeout_error"),
        ("modelStreamErrorException", "api_error"),
        ("internalServerException", "api_error"),
        ("newException", "api_error"),
    ],
)
def test_an_exception_is_an_error_event_and_the_last_one(name: str, kind: str) -> None:
    events = said(whole(chunk(EVENTS[0]) + exception(name, "why") + chunk(EVENTS[1])))
    assert events == [EVENTS[0], {"type": "error", "error": {"type": kind, "message": "why"}}]


def test_errors_without_a_payload() -> None:
    headers = {":message-type": "error", ":error-code": "InternalFailure", ":error-message": "oops"}
    assert error(frame(b"", headers)) == {"type": "api_error", "message": "oops"}
    nameless = frame(b"not JSON", {":message-type": "exception", ":exception-type": "xException"})
    assert error(nameless)["message"] == "xException"


@pytest.mark.parametrize("kept", [0, 4, 11, 12, 40, len(STREAM) - 1])
def test_a_stream_that_is_cut_ends_in_an_error_event(kept: int) -> None:
    assert "ended early" in error(STREAM[:kept])["message"]


def test_a_stream_that_lacks_its_end_at_a_border_is_cut_too() -> None:
    assert "ended early" in error(STREAM[: -len(chunk(EVENTS[-1]))])["message"]


@settings(deadline=None)
@given(st.integers(0, len(STREAM) - 1), st.integers(1, 255))
def test_one_wrong_byte_anywhere_is_noticed(at: int, change: int) -> None:
    spoiled = bytearray(STREAM)
    spoiled[at] ^= change
    events = said(whole(bytes(spoiled)))
    assert events[-1]["type"] == "error"
    assert events[:-1] == EVENTS[: len(events) - 1]


@settings(deadline=None)
@given(st.lists(st.binary(max_size=40)))
def test_anything_else_is_an_error_event_and_never_an_exception(chunks: list[bytes]) -> None:
    decoder = EventStreamToSse()
    out = b"".join(map(decoder.feed, chunks)) + decoder.finish()
    assert [event["type"] for event in said(out)] == ["error"]


@pytest.mark.parametrize(
    "wrong",
    [
        chunk(b"not JSON"),
        frame(b'{"bytes":"?"}', {":message-type": "event", ":event-type": "chunk"}),
        frame(b"{}", {":message-type": "event", ":event-type": "chunk"}),
        frame(b"", {":message-type": "surprise"}),
        frame(b"", {}),
        struct.pack(">III", 1 << 31, 0, zlib.crc32(struct.pack(">II", 1 << 31, 0))),
        struct.pack(">III", 20, 10, zlib.crc32(struct.pack(">II", 20, 10))),
    ],
)
def test_whole_messages_that_make_no_sense(wrong: bytes) -> None:
    assert error(wrong + STREAM)["type"] == "api_error"


def test_headers_of_all_types_and_events_of_other_kinds_are_passed_by() -> None:
    odd = frame(b"{}", {":message-type": "event", ":event-type": "initial-response", "flag": True, "n": 7, "raw": b"x"})
    assert said(whole(odd + STREAM)) == EVENTS


@pytest.mark.parametrize("event", [b"[1]", b'{"type":5}', b'{"type":"a\\nb"}', b'{"amazon-bedrock-trace":{}}'])
def test_what_is_no_event_of_messages_is_skipped(event: bytes) -> None:
    assert said(whole(chunk(event) + STREAM)) == EVENTS


def test_json_with_line_breaks_stays_one_event() -> None:
    pretty = json.dumps(EVENTS[0], indent=1).encode().replace(b"\n", b"\r\n")
    assert said(EventStreamToSse().feed(chunk(pretty))) == EVENTS[:1]
