"""Message events in, chat completion chunks out: wherever the events are cut, and at once."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aion_extproc.accounting.usage import Usage
from aion_extproc.wire import sse
from aion_extproc.wire.translate.stream_to_chat import ChatStream
from aion_extproc.wire.translate.target import Asked
from tests.support.answers import MESSAGE_EVENTS


def event(said: dict[str, Any]) -> bytes:
    return f"event: {said['type']}\ndata: ".encode() + orjson.dumps(said) + b"\n\n"


START = event(
    {
        "type": "message_start",
        "message": {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": "claude-x",
            "content": [],
            "usage": {"input_tokens": 10, "cache_read_input_tokens": 5, "output_tokens": 1},
        },
    }
)
STOP = event({"type": "message_stop"})
PING = b'event: ping\ndata: {"type": "ping"}\n\n'


def block(index: int, start: dict[str, Any], deltas: Sequence[dict[str, Any]]) -> list[bytes]:
    return [
        event({"type": "content_block_start", "index": index, "content_block": start}),
        *(event({"type": "content_block_delta", "index": index, "delta": delta}) for delta in deltas),
        event({"type": "content_block_stop", "index": index}),
    ]


def text(index: int, *texts: str) -> list[bytes]:
    return block(index, {"type": "text", "text": ""}, [{"type": "text_delta", "text": text} for text in texts])


def call(index: int, identity: str, name: str, *fragments: str) -> list[bytes]:
    start = {"type": "tool_use", "id": identity, "name": name, "input": {}}
    return block(index, start, [{"type": "input_json_delta", "partial_json": part} for part in fragments])


def thought(index: int, signature: str, *texts: str) -> list[bytes]:
    deltas: list[dict[str, Any]] = [{"type": "thinking_delta", "thinking": text} for text in texts]
    start = {"type": "thinking", "thinking": "", "signature": ""}
    return block(index, start, [*deltas, {"type": "signature_delta", "signature": signature}])


def ending(reason: str, **more: Any) -> bytes:
    delta = {"stop_reason": reason, "stop_sequence": None, **more}
    return event({"type": "message_delta", "delta": delta, "usage": {"output_tokens": 30}})


FULL = [
    START,
    PING,
    *thought(0, "sig", "Let me ", "think 日本"),
    *block(1, {"type": "redacted_thinking", "data": "secret"}, []),
    *thought(2, "sig2", "again"),
    *text(3, "Grüße", " 🎉", "\n  two\n"),
    b'event: content_block_delta\ndata: {"type":"content_block_delta","index":3,"delta":{"type":"text_delta",'
    b'"text":"\\ud83d\\ude00 \\u00e9"}}\n\n',
    *call(4, "toolu_1", "get_weather", "", '{"city": "M', 'ünchen"}'),
    *call(5, "toolu_2", "mcp_x_1"),
    ending("tool_use"),
    STOP,
]
ASKED = Asked(model="asked", wants_usage=True, tool_names={"mcp_x_1": "mcp.x"})


def run(*chunks: bytes, asked: Asked = ASKED) -> tuple[bytes, ChatStream]:
    stream = ChatStream(asked, created=7)
    out = b"".join([stream.feed(chunk) for chunk in chunks])
    return out + stream.finish(), stream


def chunks(out: bytes) -> list[dict[str, Any]]:
    lines = [line for line in out.split(b"\n\n") if line.startswith(b"data: {")]
    return [orjson.loads(line[6:]) for line in lines]


def deltas(out: bytes) -> list[dict[str, Any]]:
    return [chunk["choices"][0]["delta"] for chunk in chunks(out) if chunk.get("choices")]


def test_what_a_stream_says() -> None:
    out, stream = run(*FULL)
    said = deltas(out)
    assert said[0] == {"role": "assistant", "content": ""}
    assert "".join(delta.get("content") or "" for delta in said) == "Grüße 🎉\n  two\n😀 é"
    assert "".join(delta.get("reasoning_content") or "" for delta in said) == "Let me think 日本\n\nagain"
    details = [detail for delta in said for detail in delta.get("reasoning_details", [])]
    format = {"format": "anthropic-claude-v1"}
    assert details == [
        {"type": "reasoning.text", "text": "Let me think 日本", "signature": "sig", "index": 0, **format},
        {"type": "reasoning.encrypted", "data": "secret", "index": 1, **format},
        {"type": "reasoning.text", "text": "again", "signature": "sig2", "index": 2, **format},
    ]
    calls = [part for delta in said for part in delta.get("tool_calls", [])]
    started = [(part["index"], part["id"], part["function"]["name"]) for part in calls if "id" in part]
    assert started == [(0, "toolu_1", "get_weather"), (1, "toolu_2", "mcp.x")]
    arguments = ["".join(part["function"]["arguments"] for part in calls if part["index"] == i) for i in (0, 1)]
    assert arguments == ['{"city": "München"}', "{}"]
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks(out) if chunk["choices"]][-1] == "tool_calls"
    assert chunks(out)[-1]["usage"] == {
        "prompt_tokens": 15,
        "completion_tokens": 30,
        "total_tokens": 45,
        "prompt_tokens_details": {"cached_tokens": 5},
    }
    assert all((chunk["id"], chunk["model"], chunk["created"]) == ("msg_1", "claude-x", 7) for chunk in chunks(out))
    assert out.endswith(b"data: [DONE]\n\n")
    assert stream.usage == Usage(input_tokens=15, output_tokens=30, cache_read_tokens=5)
    assert (stream.complete, stream.error) == (True, "")


def test_every_split_of_the_bytes_says_the_same() -> None:
    for data in (b"".join(FULL), b"".join(FULL).replace(b"\n", b"\r\n"), b"".join(FULL).replace(b": ", b":")):
        whole = run(data)[0]
        assert run(*(data[at : at + 1] for at in range(len(data))))[0] == whole
        for at in range(len(data)):
            assert run(data[:at], data[at:])[0] == whole


TEXTS = st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=6), max_size=4)


@settings(deadline=None, max_examples=150)
@given(TEXTS, TEXTS, st.lists(st.integers(0, 3000), max_size=12), st.booleans(), st.integers(0, 3000))
def test_any_text_cut_anywhere_is_whole(
    texts: list[str], fragments: list[str], cuts: list[int], escaped: bool, end: int
) -> None:
    events = [START, *thought(0, "s", *texts), *text(1, *texts), *call(2, "t", "f", *fragments), ending("end_turn")]
    data = b"".join([*events, STOP])
    if escaped:  # as servers write it that put everything into ASCII
        data = data.decode().encode("ascii", "surrogatepass") if data.isascii() else _ascii(data)
    whole, stream = run(data)
    places = sorted({0, len(data), *(min(cut, len(data)) for cut in cuts)})
    cut, other = run(*(data[start:end] for start, end in itertools.pairwise(places)))
    assert cut == whole
    assert other.usage == stream.usage
    assert "".join(delta.get("content") or "" for delta in deltas(whole)) == "".join(texts)
    assert "".join(delta.get("reasoning_content") or "" for delta in deltas(whole)) == "".join(texts)
    parts = [part for delta in deltas(whole) for part in delta.get("tool_calls", [])]
    assert "".join(part["function"]["arguments"] for part in parts) == ("".join(fragments) or "{}")
    # Cut off, the stream ends alike too, wherever it was cut before.
    end = min(end, len(data))
    assert run(*(data[at : at + 1] for at in range(end)))[0] == run(data[:end])[0]


def _ascii(data: bytes) -> bytes:
    lines = data.decode().split("\n")
    return "\n".join(
        "data: " + json.dumps(orjson.loads(line[6:])) if line.startswith("data: ") else line for line in lines
    ).encode()


def test_each_event_comes_out_at_once() -> None:
    stream = ChatStream(ASKED)
    silent = {b'{"type":"content_block_start","index":3', b'{"type":"content_block_stop","index":3'}
    for part in FULL:
        out = stream.feed(part)
        waits = (b"signature_delta", b'"partial_json":""', b'"type":"thinking","thinking":"","signature":""')
        quiet = any(name in part for name in (*silent, *waits)) or b"content_block_stop" in part
        assert out or quiet, part
    assert stream.feed(PING) == b""


def test_a_ping_is_passed_on_as_a_comment() -> None:
    stream = ChatStream(ASKED)
    assert stream.feed(PING) == b": ping\n\n"
    assert stream.feed(b": keep-alive\n") == b": ping\n\n"


def test_usage_is_told_only_to_who_asked() -> None:
    out, stream = run(*MESSAGE_EVENTS, asked=Asked())
    assert b'"usage"' not in out
    assert out.endswith(b'"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n')
    assert stream.usage == Usage(input_tokens=1000, output_tokens=200, cache_read_tokens=400, cache_write_tokens=100)


def test_thinking_tokens_are_part_of_the_completion() -> None:
    counts = {"output_tokens": 30, "output_tokens_details": {"thinking_tokens": 20}}
    end = event({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": counts})
    out, stream = run(START, *text(0, "x"), end, STOP)
    assert chunks(out)[-1]["usage"]["completion_tokens_details"] == {"reasoning_tokens": 20}
    assert stream.usage is not None
    assert stream.usage.reasoning_tokens == 20


@pytest.mark.parametrize(
    ("reason", "finish"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("refusal", "content_filter"),
        ("pause_turn", "stop"),
        ("something_new", "stop"),
    ],
)
def test_why_it_ended(reason: str, finish: str) -> None:
    out, _ = run(START, *text(0, "x"), ending(reason), STOP)
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks(out) if chunk["choices"]] == [None, None, finish]


def test_a_refusal_says_why() -> None:
    out, _ = run(START, ending("refusal", stop_details={"type": "refusal", "explanation": "no"}), STOP)
    assert deltas(out)[-1] == {"refusal": "no"}


def test_a_call_whose_arguments_come_with_its_start() -> None:
    start = {"type": "tool_use", "id": "t", "name": "f", "input": {"a": [1, "é"]}}
    out, _ = run(START, *block(0, start, []), ending("tool_use"), STOP)
    calls = [part for delta in deltas(out) for part in delta.get("tool_calls", [])]
    assert calls[1] == {"index": 0, "function": {"arguments": '{"a":[1,"é"]}'}}


def test_a_block_that_does_not_stop_is_closed_at_the_end() -> None:
    out, _ = run(START, *call(0, "t", "f")[:1], *thought(1, "s", "hm")[:-1], ending("tool_use"), STOP)
    assert b'"arguments":"{}"' in out
    assert b'"signature":"s"' in out


def test_blocks_that_chat_does_not_know_are_left_out() -> None:
    search = block(
        0,
        {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}},
        [{"type": "input_json_delta", "partial_json": '{"q":1}'}],
    )
    cited = block(1, {"type": "text", "text": ""}, [{"type": "citations_delta", "citation": {}}])
    out, stream = run(START, *search, *cited, *text(2, "x"), ending("end_turn"), STOP)
    assert [delta for delta in deltas(out) if delta] == [{"role": "assistant", "content": ""}, {"content": "x"}]
    assert stream.error == ""


ERROR = event({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}})


def test_an_error_event_is_told_and_ends_the_stream() -> None:
    out, stream = run(START, *text(0, "x"), ERROR, *text(1, "y"), STOP)
    assert chunks(out)[-1] == {
        "error": {"message": "Overloaded", "type": "server_error", "param": None, "code": "overloaded"}
    }
    assert b"[DONE]" not in out
    assert b'"y"' not in out
    assert stream.error == "error_event"
    assert stream.usage == Usage(input_tokens=15, output_tokens=1, cache_read_tokens=5)
    assert not stream.complete


def test_a_stream_that_breaks_off_says_so() -> None:
    for parts in ([], [START], [START, *text(0, "x")], [START, *text(0, "x")[:2], b'event: x\ndata: {"type":"con']):
        out, stream = run(*parts)
        assert chunks(out)[-1]["error"]["code"] == "cut_stream"
        assert stream.error == "cut_stream"
        assert b"[DONE]" not in out


def test_only_the_last_event_is_missing() -> None:
    out, stream = run(START, *text(0, "x"), ending("end_turn"))
    assert out.endswith(b"data: [DONE]\n\n")
    assert stream.error == ""
    assert run(START, *text(0, "x"), ending("end_turn"), b"data: [DONE]\n\n")[0] == out


@pytest.mark.parametrize("data", [b"data: nonsense\n\n", b"data: [1]\n\n", b'data: {"a":\n\n'])
def test_a_stream_that_is_none(data: bytes) -> None:
    out, stream = run(START, data, STOP)
    assert chunks(out)[-1]["error"]["code"] == "bad_stream"
    assert stream.error == "bad_stream"


def test_an_event_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "LARGEST_EVENT", 1000)
    out, stream = run(START, b"data: " + b"x" * 2000)
    assert stream.error == "bad_stream"
    assert chunks(out)[-1]["error"]["code"] == "bad_stream"


def test_half_a_character_goes_on_as_it_came() -> None:
    halves = [b'data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"\\ud83d"}}\n\n']
    out, stream = run(START, *halves, ending("end_turn"), STOP)
    assert b'"content":"\\ud83d"' in out
    assert stream.error == ""


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3) | st.sampled_from(["text", "tool_use", "thinking"]),
    lambda inner: st.lists(inner, max_size=2)
    | st.dictionaries(
        st.sampled_from(
            [
                *("type", "index", "delta", "text", "content_block", "message", "usage", "error", "id", "name"),
                *("input", "stop_reason", "stop_details", "thinking", "signature", "partial_json", "model", "data"),
            ]
        ),
        inner,
        max_size=4,
    ),
    max_leaves=6,
)
KINDS = st.sampled_from(
    [
        *("message_start", "content_block_start", "content_block_delta", "content_block_stop", "message_delta"),
        *("message_stop", "ping", "error", "new"),
    ]
)
DELTAS = st.sampled_from(["text_delta", "input_json_delta", "thinking_delta", "signature_delta", "x"])


@settings(deadline=None, max_examples=500)
@given(st.lists(st.tuples(KINDS, DELTAS, st.dictionaries(st.sampled_from(["index", "delta", "message"]), JUNK), JUNK)))
def test_no_stream_raises(parts: list[tuple[str, str, dict[str, Any], Any]]) -> None:
    events = [START]
    for kind, delta, members, junk in parts:
        said = {"index": 0, "content_block": junk, "usage": junk, **members, "type": kind}
        if isinstance(said.get("delta"), dict):
            said["delta"] = {**said["delta"], "type": delta}
        events.append(b"data: " + json.dumps(said).encode() + b"\n\n")
    out, stream = run(*events)
    for chunk in chunks(out):
        assert "choices" in chunk or "error" in chunk
    assert out.endswith(b"data: [DONE]\n\n") is (stream.error == "")
