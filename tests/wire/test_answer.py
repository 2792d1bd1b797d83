"""The token counts in answers, wherever a stream is cut into chunks."""

from __future__ import annotations

import random
from typing import Any

import orjson
import pytest

from aion_extproc.accounting.usage import Usage
from aion_extproc.wire.answer import StreamUsage, answer_usage, chat_usage
from aion_extproc.wire.format import Format
from tests.support.answers import CHAT, CHAT_EVENTS, CHAT_USAGE, DONE, MESSAGE, MESSAGE_EVENTS

CHAT_COUNTS = Usage(input_tokens=1000, output_tokens=200, cache_read_tokens=400, reasoning_tokens=50)
MESSAGE_COUNTS = Usage(input_tokens=1000, output_tokens=200, cache_read_tokens=400, cache_write_tokens=100)
NULLS = [event.replace(b"]}\n\n", b'],"usage":null}\n\n') for event in CHAT_EVENTS]
STREAMS = {
    "chat": (Format.OPENAI, [*CHAT_EVENTS, CHAT_USAGE, DONE], CHAT_COUNTS),
    "chat without an end": (Format.OPENAI, [*CHAT_EVENTS, CHAT_USAGE], CHAT_COUNTS),
    "chat with nulls": (Format.OPENAI, [*NULLS, CHAT_USAGE, DONE], CHAT_COUNTS),
    "message": (Format.ANTHROPIC, MESSAGE_EVENTS, MESSAGE_COUNTS),
    "message without an end": (Format.ANTHROPIC, MESSAGE_EVENTS[:-1], MESSAGE_COUNTS),
}
WAYS = {
    "as recorded": lambda data: data,
    "CRLF": lambda data: data.replace(b"\n", b"\r\n"),
    "no space": lambda data: data.replace(b"data: ", b"data:"),
    "one line end": lambda data: data.replace(b"\n\n", b"\n"),
    "comments": lambda data: data.replace(b"data:", b": keep-alive\n\ndata:"),
}


def fed(format: Format, *chunks: bytes) -> StreamUsage:
    stream = StreamUsage(format)
    for chunk in chunks:
        stream.feed(chunk)
    return stream


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_cut_anywhere_says_the_same(name: str, way: str) -> None:
    format, events, counts = STREAMS[name]
    data = WAYS[way](b"".join(events))
    for at in range(len(data) + 1):
        stream = fed(format, data[:at], data[at:])
        assert (stream.usage, stream.complete) == (counts, True), at
    chance = random.Random(name + way)
    for _ in range(100):
        cuts = sorted(chance.choices(range(len(data) + 1), k=chance.randint(2, 40)))
        pieces = [data[start:end] for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True)]
        stream = fed(format, *pieces)
        assert (stream.usage, stream.complete) == (counts, True), cuts
    one_by_one = fed(format, *(data[at : at + 1] for at in range(len(data))))
    assert (one_by_one.usage, one_by_one.complete) == (counts, True)


def test_feed_says_when_something_new_is_known() -> None:
    stream = StreamUsage(Format.ANTHROPIC)
    assert [stream.feed(event) for event in MESSAGE_EVENTS] == [True, False, False, False, False, True, False]


def test_a_message_stream_that_breaks_off_has_counted_its_input() -> None:
    stream = fed(Format.ANTHROPIC, *MESSAGE_EVENTS[:4])
    assert stream.usage == Usage(input_tokens=1000, output_tokens=1, cache_read_tokens=400, cache_write_tokens=100)
    assert not stream.complete


def test_a_chat_stream_that_breaks_off_has_counted_nothing() -> None:
    for events in (CHAT_EVENTS, NULLS, [b"data: [DONE]\n\n"], [b'data: {"usage":\n\n'], [b'data: ["usage"]\n\n']):
        stream = fed(Format.OPENAI, *events)
        assert stream.usage is None
        assert not stream.complete


def test_the_last_message_delta_may_repeat_or_correct_the_input() -> None:
    counts = {"input_tokens": 7, "cache_read_input_tokens": None, "output_tokens": 9}
    delta = b"data: " + orjson.dumps({"type": "message_delta", "usage": counts}) + b"\n\n"
    stream = fed(Format.ANTHROPIC, MESSAGE_EVENTS[0], delta)
    assert stream.usage == Usage(input_tokens=507, output_tokens=9, cache_read_tokens=400, cache_write_tokens=100)


def chunk(choices: list[Any] | None, **usage: int) -> bytes:
    return b"data: " + orjson.dumps({"choices": choices, "usage": usage}) + b"\n\n"


def test_a_server_that_counts_in_every_chunk_is_done_with_the_last_choice() -> None:
    going = chunk([{"index": 0, "delta": {}, "finish_reason": None}], prompt_tokens=5, completion_tokens=1)
    last = chunk([{"index": 0, "delta": {}, "finish_reason": "stop"}], prompt_tokens=5, completion_tokens=2)
    stream = fed(Format.OPENAI, going)
    assert (stream.usage, stream.complete) == (Usage(5, 1), False)
    stream.feed(last)
    assert (stream.usage, stream.complete) == (Usage(5, 2), True)
    assert fed(Format.OPENAI, chunk([], prompt_tokens=5)).complete
    assert fed(Format.OPENAI, chunk(None, prompt_tokens=5)).complete


def test_text_about_usage_is_not_usage() -> None:
    says = orjson.dumps({"choices": [{"delta": {"content": 'data: {"usage":{"prompt_tokens":9}}\n\n"usage"'}}]})
    assert fed(Format.OPENAI, b"data: " + says + b"\n\n").usage is None
    assert fed(Format.OPENAI, b": " + CHAT_USAGE).usage is None


def test_an_endless_event_is_not_kept() -> None:
    stream = StreamUsage(Format.OPENAI)
    piece = b'data: {"usage":' + b"x" * 100_000
    for _ in range(50):
        stream.feed(piece)
        assert len(stream._rest) < 2 << 20
    stream.feed(b"\n\n" + CHAT_USAGE)
    assert stream.usage == CHAT_COUNTS


def test_json_answers() -> None:
    assert answer_usage(CHAT, Format.OPENAI) == (CHAT_COUNTS, None)
    usage = Usage(
        input_tokens=1000, output_tokens=200, cache_read_tokens=400, cache_write_tokens=100, cache_write_1h_tokens=40
    )
    assert answer_usage(MESSAGE, Format.ANTHROPIC) == (usage, None)


@pytest.mark.parametrize("format", Format)
@pytest.mark.parametrize(
    "body",
    [b"", b"x", b"[]", b"{}", b"null", b'{"usage":null}', b'{"usage":[1]}', b'{"usage":7}', b"\xff", b"[" * 5000],
)
def test_an_answer_that_reports_nothing(body: bytes, format: Format) -> None:
    assert answer_usage(body, format) is None


@pytest.mark.parametrize("format", Format)
def test_counts_that_are_none(format: Format) -> None:
    names = [*("prompt_tokens", "completion_tokens", "input_tokens", "output_tokens"), "cache_read_input_tokens"]
    values: list[Any] = [None, "5", -5, 5.0, True, [5], {}]
    for value in values:
        details = {"prompt_tokens_details": value, "completion_tokens_details": value, "cache_creation": value}
        body = orjson.dumps({"usage": dict.fromkeys(names, value) | details})
        assert answer_usage(body, format) == (Usage(), None), value
    # and one that no 64 bits hold when added up, which must not stop the answer
    found = answer_usage(orjson.dumps({"usage": dict.fromkeys(names, 2**64 - 1)}), format)
    assert found is not None
    assert 10**9 < found[0].input_tokens < 2**63


@pytest.mark.parametrize(
    ("members", "cached"),
    [
        ({"prompt_cache_hit_tokens": 7, "prompt_cache_miss_tokens": 3}, 7),  # DeepSeek
        ({"cached_tokens": 7}, 7),  # Moonshot
        ({"cached_tokens": 7, "prompt_tokens_details": {"cached_tokens": 4}}, 4),
        ({"prompt_cache_hit_tokens": 7, "prompt_tokens_details": {"cached_tokens": 0}}, 0),
        ({"cached_tokens": 7, "prompt_tokens_details": None}, 7),
        ({"cached_tokens": None, "prompt_cache_hit_tokens": "x"}, 0),
    ],
)
def test_cached_tokens_wherever_they_stand(members: dict[str, Any], cached: int) -> None:
    assert chat_usage({"prompt_tokens": 10, "completion_tokens": 2, **members}) == Usage(10, 2, cached)


def test_reasoning_beside_the_completion_is_output_too() -> None:
    details = {"completion_tokens_details": {"reasoning_tokens": 317}}
    counts = {"prompt_tokens": 12, "completion_tokens": 2, "total_tokens": 331}
    assert chat_usage(counts | details) == Usage(12, 319, reasoning_tokens=317)  # grok-3-mini's, of vercel/ai#12425
    within = {"prompt_tokens": 12, "completion_tokens": 319, "total_tokens": 331}
    assert chat_usage(within | details) == Usage(12, 319, reasoning_tokens=317)
    assert chat_usage({"prompt_tokens": 12, "completion_tokens": 319} | details) == Usage(12, 319, reasoning_tokens=317)
