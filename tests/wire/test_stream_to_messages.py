"""Chat streams as Anthropic's, read by Anthropic's own SDK, and the same wherever they are cut."""

from __future__ import annotations

import json
import re
from itertools import pairwise
from typing import Any

import anthropic
import httpx2
import orjson
import pytest
from anthropic.types import ParsedMessage
from hypothesis import given, settings
from hypothesis import strategies as st

from aion_extproc.accounting.usage import Usage
from aion_extproc.wire.translate.answer import StreamTranslator
from aion_extproc.wire.translate.stream_to_messages import MessagesStream
from aion_extproc.wire.translate.target import Asked
from tests.support.answers import CHAT_EVENTS, CHAT_USAGE, DONE

HEAD = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
COUNTS = {"prompt_tokens": 10, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 4}}


def data(value: Any) -> bytes:
    return b"data: " + (value if isinstance(value, bytes) else json.dumps(value).encode()) + b"\n\n"


def chunk(delta: Any = None, finish: Any = None, **members: Any) -> bytes:
    return data({**HEAD, "choices": [{"index": 0, "delta": delta or {}, "finish_reason": finish}], **members})


def fragment(index: Any, arguments: Any = None, id: Any = None, name: Any = None) -> bytes:
    function = {key: value for key, value in (("name", name), ("arguments", arguments)) if value is not None}
    call = {"index": index, "id": id, "type": "function", "function": function}
    return chunk({"tool_calls": [{key: value for key, value in call.items() if value is not None}]})


USAGE = data({**HEAD, "choices": [], "usage": COUNTS})
ROLE = chunk({"role": "assistant", "content": ""})


def end(finish: str = "stop") -> list[bytes]:
    return [chunk(finish=finish), USAGE, DONE]


def run(*chunks: bytes, asked: Asked | None = None) -> tuple[StreamTranslator, list[bytes]]:
    stream = MessagesStream(asked or Asked(model="asked"))
    return stream, [*(stream.feed(chunk) for chunk in chunks), stream.finish()]


def events(out: list[bytes]) -> list[dict[str, Any]]:
    """Every event as its data, whose type is what the event line says."""
    found = []
    for event in b"".join(out).split(b"\n\n")[:-1]:
        type, value = event.split(b"\n")
        said = json.loads(value.removeprefix(b"data: "))
        assert type == b"event: " + said["type"].encode()
        found.append(said)
    return found


def read(*chunks: bytes, asked: Asked | None = None) -> ParsedMessage[None]:
    """What Anthropic's SDK makes of the translated stream."""
    _, out = run(*chunks, asked=asked)

    def answer(request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, headers={"content-type": "text/event-stream"}, content=b"".join(out))

    http = httpx2.Client(transport=httpx2.MockTransport(answer))
    client = anthropic.Anthropic(api_key="x", base_url="http://x.test", http_client=http, max_retries=0)
    with client.messages.stream(model="m", max_tokens=9, messages=[{"role": "user", "content": "hi"}]) as stream:
        return stream.get_final_message()


def blocks(*chunks: bytes) -> list[dict[str, Any]]:
    return [block.to_dict() for block in read(*chunks).content]


def use(id: str, input: Any, name: str = "Read") -> dict[str, Any]:
    return {"type": "tool_use", "id": id, "name": name, "input": input}


TEXT = [ROLE, chunk({"content": "four é "}), chunk({"content": "😀\n  def"}), *end()]
THINKING = [chunk({"reasoning_content": "hm"}), chunk({"reasoning": ", so"}), chunk({"content": "four"}), *end()]
CALLS = [
    *(chunk({"content": "I look."}), fragment(0, "", "a", "Read"), fragment(0, '{"path":'), fragment(0, ' "é"}')),
    *(fragment(1, '{"b":2}', "b", "Read"), *end("tool_calls")),
]
INTERLEAVED = [
    *(fragment(0, "", "a", "Read"), fragment(1, "", "b", "Write"), fragment(1, '{"b"'), fragment(0, '{"a":')),
    *(fragment(1, ":2}"), fragment(0, "1}"), chunk({"content": "done"}), *end("tool_calls")),
]
DETAILS = [
    chunk({"reasoning": "hm", "reasoning_details": [{"type": "reasoning.text", "text": "hm", "index": 0}]}),
    chunk({"reasoning_details": [{"type": "reasoning.text", "signature": "sig", "index": 0}]}),
    chunk({"reasoning_details": [{"type": "reasoning.encrypted", "data": "xyz"}]}),
    *(chunk({"content": "four"}), *end()),
]
BROKEN = [ROLE, chunk({"content": "fo"}), data({"error": {"message": "out of memory", "code": 503}}), *end()]
STREAMS = {
    "text": TEXT,
    "thinking": THINKING,
    "calls": CALLS,
    "interleaved": INTERLEAVED,
    "details": DETAILS,
    "error": BROKEN,
    "cut": TEXT[:2],
    "recorded": [*CHAT_EVENTS, CHAT_USAGE, DONE],
    "odd": [b": ping\n\n", *(one.replace(b"data: ", b"data:").replace(b"\n", b"\r\n") for one in TEXT)],
}


def test_text() -> None:
    message = read(*TEXT)
    assert [block.to_dict() for block in message.content] == [{"type": "text", "text": "four é 😀\n  def"}]
    assert (message.model, message.stop_reason) == ("m", "end_turn")
    counts = message.usage
    assert (counts.input_tokens, counts.cache_read_input_tokens, counts.output_tokens) == (6, 4, 3)


def test_every_event_comes_as_soon_as_it_can() -> None:
    stream, out = run(*TEXT)
    types = [[event["type"] for event in events([one])] for one in out]
    assert types == [
        ["message_start"],
        ["content_block_start", "content_block_delta"],
        ["content_block_delta"],
        ["content_block_stop"],
        [],
        ["message_delta", "message_stop"],
        [],
    ]
    assert (stream.usage, stream.complete, stream.error) == (Usage(10, 3, 4), True, "")


def test_thinking_comes_in_a_block_of_its_own() -> None:
    assert blocks(*THINKING) == [
        {"type": "thinking", "thinking": "hm, so", "signature": ""},
        {"type": "text", "text": "four"},
    ]
    parts = [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}, {"type": "text", "text": "a"}]
    assert [block["type"] for block in blocks(chunk({"content": parts}), *end())] == ["thinking", "text"]


def test_reasoning_details_with_signatures() -> None:
    assert blocks(*DETAILS) == [
        {"type": "thinking", "thinking": "hm", "signature": "sig"},
        {"type": "redacted_thinking", "data": "xyz"},
        {"type": "text", "text": "four"},
    ]
    two = [{"type": "reasoning.text", "text": text, "signature": text} for text in ("one", "two")]
    found = blocks(chunk({"reasoning_details": two}), *end())
    assert [(block["thinking"], block["signature"]) for block in found] == [("one", "one"), ("two", "two")]
    # Gemini signs a call after it has begun.
    late = [*CALLS[:2], chunk({"reasoning_details": [{"type": "reasoning.encrypted", "data": "x"}]}), *CALLS[2:]]
    assert [block["type"] for block in blocks(*late)] == ["text", "tool_use", "redacted_thinking", "tool_use"]


def test_calls_one_after_the_other() -> None:
    message = read(*CALLS)
    found = [block.to_dict() for block in message.content]
    assert found == [{"type": "text", "text": "I look."}, use("a", {"path": "é"}), use("b", {"b": 2})]
    assert message.stop_reason == "tool_use"
    _, out = run(*CALLS)
    # The fragments of the first, and the second as soon as it begins.
    assert [len(events([one])) for one in out[1:5]] == [2, 1, 1, 3]


def test_calls_whose_fragments_interleave() -> None:
    assert blocks(*INTERLEAVED) == [
        use("a", {"a": 1}),
        use("b", {"b": 2}, "Write"),
        {"type": "text", "text": "done"},
    ]


def test_calls_as_other_servers_send_them() -> None:
    # Gemini: whole, all with the index 0 or none.
    for index in (0, None):
        whole = [fragment(index, '{"a":1}', "a", "Read"), fragment(index, '{"b":1}', "b", "Read"), *end()]
        assert blocks(*whole) == [use("a", {"a": 1}), use("b", {"b": 1})]
    # The id and the name with every fragment, or with none but the first and no index.
    again = [fragment(0, '{"a"', "a", "Read"), fragment(0, ":1}", "a", "Read"), *end()]
    assert blocks(*again) == [use("a", {"a": 1})]
    assert blocks(fragment(None, '{"a"', "a", "Read"), fragment(None, ":1}"), *end()) == [use("a", {"a": 1})]
    # The name after the id.
    assert blocks(fragment(0, "", "a"), fragment(0, "{", name="Read"), fragment(0, "}"), *end()) == [use("a", {})]
    old = [chunk({"function_call": {"name": "Read", "arguments": "{"}}), chunk({"function_call": {"arguments": "}"}})]
    assert read(*old, *end("function_call")).stop_reason == "tool_use"
    assert blocks(fragment(0, {"a": 1}, "a", "Read"), *end()) == [use("a", {"a": 1})]


def test_arguments_that_are_no_object() -> None:
    assert blocks(fragment(0, "", "a", "Read"), fragment(1, None, "b", "Read"), *end()) == [use("a", {}), use("b", {})]
    assert blocks(fragment(0, "  ", "a", "Read"), *end()) == [use("a", {})]
    assert blocks(fragment(0, "[1", "a", "Read"), fragment(0, "]"), *end()) == [use("a", {"INVALID_JSON": "[1]"})]
    # Cut by the limit of tokens: as far as it came, as from Anthropic.
    message = read(fragment(0, '{"a":"b', "a", "Read"), *end("length"))
    assert message.stop_reason == "max_tokens"


def test_ids_that_are_missing_or_come_twice() -> None:
    twice = [fragment(0, "{}", "", "Read"), fragment(1, "{}", "a", "Read"), fragment(2, "{}", "a", "Read"), *end()]
    ids = [block["id"] for block in blocks(*twice)]
    assert len(set(ids)) == 3
    assert ids == [block["id"] for block in blocks(*twice)]
    assert ids[1] == "a"


def test_ids_that_anthropic_refuses_are_changed() -> None:
    odd = [fragment(0, "{}", "functions.Read:0", "Read"), fragment(1, "{}", "functions.Read:0", "Read"), *end()]
    ids = [block["id"] for block in blocks(*odd)]
    assert all(re.fullmatch("[a-zA-Z0-9_-]+", id) for id in ids)
    assert len(set(ids)) == 2
    assert ids == [block["id"] for block in blocks(*odd)]


def test_names_are_the_clients() -> None:
    message = read(fragment(0, "{}", "a", "short_1"), *end(), asked=Asked(tool_names={"short_1": "mcp__a.long"}))
    assert message.content[0].to_dict()["name"] == "mcp__a.long"


def test_text_while_a_call_is_open_comes_after_it() -> None:
    mixed = [fragment(0, '{"a":', "a", "Read"), chunk({"content": "x"}), fragment(0, "1}"), chunk({"content": "y"})]
    assert blocks(*mixed, *end()) == [use("a", {"a": 1}), {"type": "text", "text": "xy"}]


@pytest.mark.parametrize(
    ("ending", "reason"),
    [
        (end("length"), "max_tokens"),
        (end("content_filter"), "refusal"),
        ([chunk({"refusal": "no"}), *end()], "refusal"),
        ([chunk(finish="stop")], "end_turn"),  # no [DONE]
        ([chunk(finish="stop").rstrip(b"\n")], "end_turn"),  # nor the last line end
        ([DONE], "end_turn"),  # no finish_reason
        ([data(b""), chunk({}, "stop", usage=COUNTS), DONE], "end_turn"),
    ],
)
def test_endings(ending: list[bytes], reason: str) -> None:
    assert read(*TEXT[:2], *ending).stop_reason == reason


def test_what_comes_after_the_finish_reason_is_not_lost() -> None:
    late = [chunk({"content": "a"}, "stop"), chunk({"content": "b"}), fragment(0, "{}", "a", "Read"), *end()[1:]]
    assert [block["type"] for block in blocks(*late)] == ["text", "text", "tool_use"]


def test_a_stop_sequence_that_was_met() -> None:
    last = data({**HEAD, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop", "stop_reason": "END"}]})
    message = read(*TEXT[:2], last, DONE)
    assert (message.stop_reason, message.stop_sequence) == ("stop_sequence", "END")


def test_usage_wherever_it_stands() -> None:
    groq = chunk({}, "stop", x_groq={"usage": COUNTS})
    moonshot = data({**HEAD, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop", "usage": COUNTS}]})
    for last in (groq, moonshot):
        stream, _ = run(*TEXT[:2], last, DONE)
        assert (stream.usage, stream.complete) == (Usage(10, 3, 4), True)
    stream, out = run(chunk({"content": "a"}, usage={"prompt_tokens": 7}), chunk({"content": "b"}))
    assert events(out)[0]["message"]["usage"]["input_tokens"] == 7
    assert (stream.usage, stream.complete, stream.error) == (Usage(7), False, "cut_stream")
    nothing = read(*TEXT[:2], chunk(finish="stop"), DONE)
    assert (nothing.usage.input_tokens, nothing.usage.output_tokens) == (0, 0)


def test_the_estimate_stands_until_the_server_counts() -> None:
    asked = Asked(input_tokens=1234)
    _, out = run(*TEXT, asked=asked)
    start, last = events(out)[0]["message"]["usage"], events(out)[-2]["usage"]
    assert (start["input_tokens"], last["input_tokens"]) == (1234, 6)
    counts = read(*TEXT, asked=asked).usage
    assert (counts.input_tokens, counts.cache_read_input_tokens, counts.output_tokens) == (6, 4, 3)
    assert read(*TEXT[:2], chunk(finish="stop"), DONE, asked=asked).usage.input_tokens == 1234
    assert run(*TEXT[:2], chunk(finish="stop"), DONE, asked=asked)[0].usage is None


def test_keep_alives_are_pings() -> None:
    _, out = run(b": OPENROUTER PROCESSING\n\n", *TEXT)
    assert [event["type"] for event in events(out)][:2] == ["ping", "message_start"]


def test_half_a_surrogate_pair_is_passed_on() -> None:
    """Where a server cuts its text inside an emoji, the client puts the halves together."""
    _, out = run(chunk({"content": "\ud83d"}), chunk({"content": "\ude00"}), *end())
    assert b'"\\ud83d"' in b"".join(out)
    assert b'"\\ude00"' in b"".join(out)


@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_cut_anywhere_says_the_same(name: str) -> None:
    whole = b"".join(STREAMS[name])
    once = b"".join(run(whole)[1])
    assert b"".join(run(*STREAMS[name])[1]) == once
    for at in range(len(whole) + 1):
        assert b"".join(run(whole[:at], whole[at:])[1]) == once, at
    assert b"".join(run(*(whole[at : at + 1] for at in range(len(whole))))[1]) == once


FUNCTIONS = st.fixed_dictionaries(
    {}, optional={"name": st.just("Read"), "arguments": st.sampled_from(["{", "}", '"a":1'])}
)
JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2)
    | st.dictionaries(st.sampled_from(["text", "data", "index", "type", "function"]), inner, max_size=3),
    max_leaves=6,
)
MEMBERS = st.sampled_from(["content", "reasoning", "reasoning_details", "tool_calls", "refusal", "function_call"])
DELTAS = st.one_of(
    st.builds(lambda text: {"content": text}, st.text(max_size=9)),
    st.builds(lambda text: {"reasoning_content": text}, st.text(max_size=9)),
    st.builds(
        lambda index, function, id: {"tool_calls": [{"index": index, "id": id, "function": function}]},
        st.integers(0, 2),
        FUNCTIONS,
        st.sampled_from([None, "", "a", "b"]),
    ),
    st.dictionaries(MEMBERS, JUNK, max_size=2),
)


@settings(max_examples=200, deadline=None)
@given(
    deltas=st.lists(DELTAS, max_size=8),
    finish=st.sampled_from(["stop", "tool_calls", None]),
    cuts=st.lists(st.integers(0, 3000), max_size=8),
    ascii=st.booleans(),
)
def test_any_deltas_make_a_stream_that_holds_together(
    deltas: list[Any], finish: str | None, cuts: list[int], ascii: bool
) -> None:
    """Blocks open and close in order, no text is lost, and cuts change nothing."""
    chunks = [{**HEAD, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas]
    last = {**HEAD, "choices": [{"index": 0, "delta": {}, "finish_reason": finish}]}
    whole = b"".join(data(json.dumps(one, ensure_ascii=ascii).encode()) for one in [*chunks, last]) + DONE
    stream, out = run(whole)
    places = [0, *sorted(min(cut, len(whole)) for cut in cuts), len(whole)]
    pieces = [whole[start:stop] for start, stop in pairwise(places)]
    assert b"".join(run(*pieces)[1]) == b"".join(out)
    opened: list[str] = []
    texts = {"text_delta": "", "thinking_delta": ""}
    is_open = False
    for event in events(out):
        kind = event["type"]
        if kind == "content_block_start":
            assert not is_open
            assert event["index"] == len(opened)
            opened.append(event["content_block"]["type"])
            is_open = True
        elif kind == "content_block_delta":
            assert is_open
            assert event["index"] == len(opened) - 1
            if (delta := event["delta"])["type"] in texts:
                assert delta["type"].removesuffix("_delta") == opened[-1]
                texts[delta["type"]] += delta.get("text") or delta.get("thinking")
        elif kind == "content_block_stop":
            is_open = False
    assert not is_open or stream.error
    said = [delta["content"] for delta in deltas if isinstance(delta.get("content"), str) and len(delta) == 1]
    if not stream.error and all(len(delta) == 1 and "refusal" not in delta for delta in deltas):
        at = 0
        for text in said:
            at = texts["text_delta"].index(text, at) + len(text)


def test_what_a_chunk_costs_is_a_quick_path() -> None:
    """Nothing but the delta is written anew for a chunk of text."""
    stream = MessagesStream(Asked())
    stream.feed(chunk({"content": "a"}))
    expected = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "b"}}
    assert stream.feed(chunk({"content": "b"})) == b"event: content_block_delta\ndata: %b\n\n" % orjson.dumps(expected)
