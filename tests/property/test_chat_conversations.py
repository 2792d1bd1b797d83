"""Whole chat conversations as Anthropic's Messages API would judge them."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from aion_extproc.wire.errors import RequestError
from aion_extproc.wire.format import Format
from aion_extproc.wire.request import Request, parse
from aion_extproc.wire.translate.request_to_messages import to_messages
from aion_extproc.wire.translate.target import MessagesTarget, Translated
from tests.property.anthropic_rules import CREATE, judge

TARGETS = st.sampled_from(
    [
        MessagesTarget(),
        MessagesTarget(thinking="budget", effort=False, longest_tool_name=64),
        MessagesTarget(thinking="", effort=False, json_schema=False, sampling=False, image_urls=False),
        MessagesTarget(cache_control=False, max_tokens=64_000, effort=False),
        MessagesTarget(system_turns=True, xhigh=True, prefill=False, forced_tools=False, unthinking=""),
        MessagesTarget(system_turns=True, max_effort=False, unthinking="between_tools"),
    ]
)


def test_the_judge_says_no() -> None:
    good = {"model": "m", "max_tokens": 1, "messages": [{"role": "user", "content": [{"type": "text", "text": "x"}]}]}
    CREATE.validate_python(good)
    bad = [
        {**good, "seed": 1},
        {**good, "messages": [{"role": "user", "content": [{"type": "text", "text": "x", "name": 1}]}]},
        {**good, "messages": [{"role": "user", "content": [{"type": "thinking", "thinking": "x"}]}]},
        {**good, "tools": [{"name": "f"}]},
    ]
    for body in bad:
        with pytest.raises(ValueError, match="validation error"):
            CREATE.validate_python(body)


def outcome(request: Request, target: MessagesTarget) -> Translated | RequestError:
    try:
        return to_messages(request, "claude", target)
    except RequestError as error:
        return error


# Conversations that a client may well hold.

TEXT = st.sampled_from(["", " ", "\n", "hi", "héllo 🎉 ", "日本語", "  indented\n"]) | st.text(max_size=8)
NAMES = st.sampled_from(["f", "get_weather", "mcp.server/tool", "x" * 200, "名前", "f.", "f_"])
PNG = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUg=="
PARTS: dict[str, Any] = {
    "text": {"type": "text", "text": "part"},
    "cached": {"type": "text", "text": "long", "cache_control": {"type": "ephemeral"}},
    "blank": {"type": "text", "text": " "},
    "image": {"type": "image_url", "image_url": {"url": PNG, "detail": "high"}},
    "address": {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}},
    "file": {"type": "file", "file": {"file_data": "data:application/pdf;base64,JVBERi0=", "filename": "a.pdf"}},
}
ANY_PARTS = st.lists(st.sampled_from(list(PARTS.values())), max_size=3)
TEXT_PARTS = st.lists(st.sampled_from([PARTS["text"], PARTS["cached"], PARTS["blank"]]), max_size=3)
ARGUMENTS = st.sampled_from(["", "{}", '{"a":1}', '{"n":123456789012345678901}', "{", "[1]", "null", '{"e":"\\ud83d"}'])
DETAILS: st.SearchStrategy[dict[str, Any]] = st.sampled_from(
    [
        {"reasoning_details": [{"type": "reasoning.text", "text": "hm", "signature": "s", "index": 0}]},
        {"reasoning_details": [{"type": "reasoning.encrypted", "data": "e"}, {"type": "reasoning.text", "text": "?"}]},
        {"thinking_blocks": [{"type": "thinking", "thinking": "hm", "signature": "s"}]},
        {"reasoning_content": "hm"},
        {},
        {},
    ]
)


@st.composite
def conversations(draw: st.DrawFn) -> dict[str, Any]:
    messages: list[dict[str, Any]] = []
    for _ in range(draw(st.integers(1, 6))):
        kind = draw(st.sampled_from(["system", "developer", "user", "assistant", "tools", "tools", "function"]))
        if kind in ("system", "developer", "assistant"):
            messages.append({"role": kind, "content": draw(TEXT | TEXT_PARTS)})
            if kind == "assistant":
                messages[-1] |= draw(DETAILS)
        elif kind == "user":
            messages.append({"role": "user", "content": draw(TEXT | ANY_PARTS), "name": "bob"})
        elif kind == "tools":
            messages += draw(tool_turns())
        else:
            call = {"name": draw(NAMES), "arguments": draw(ARGUMENTS)}
            messages.append({"role": "assistant", "content": None, "function_call": call})
            messages.append({"role": "function", "name": call["name"], "content": draw(TEXT)})
    body: dict[str, Any] = {"model": "m", "messages": messages}
    names = draw(st.lists(NAMES, max_size=4, unique=True))
    if names:
        body["tools"] = [
            {"type": "function", "function": {"name": name, "parameters": draw(st.sampled_from(SCHEMAS))}}
            for name in names
        ]
        named = {"type": "function", "function": {"name": names[0]}}
        allowed = {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [named]}}
        body["tool_choice"] = draw(st.sampled_from(["auto", "none", "required", named, allowed]))
        body["parallel_tool_calls"] = draw(st.booleans())
    return body | draw(st.fixed_dictionaries({}, optional=SETTINGS))


@st.composite
def tool_turns(draw: st.DrawFn) -> list[dict[str, Any]]:
    ids = draw(st.lists(st.sampled_from(["call_1", "call_2", "functions.f:0", "", "é", "x" * 70]), max_size=3))
    calls = [
        {"id": id, "type": "function", "function": {"name": draw(NAMES), "arguments": draw(ARGUMENTS)}} for id in ids
    ]
    turn = {"role": "assistant", "content": draw(st.none() | TEXT), "tool_calls": calls} | draw(DETAILS)
    results = [{"role": "tool", "tool_call_id": id, "content": draw(TEXT | ANY_PARTS)} for id in ids]
    results = draw(st.permutations(results))
    if draw(st.booleans()):
        results.insert(draw(st.integers(0, len(results))), {"role": "user", "content": "wait"})
    return [turn, *results]


SCHEMAS: list[Any] = [
    None,
    {},
    {"type": "object", "properties": {"a": {"type": "integer", "minimum": 1}}, "required": ["a"]},
    {"properties": {"a": {"$ref": "#/$defs/a"}}, "$defs": {"a": {"type": "string"}}},
]
SETTINGS: dict[str, st.SearchStrategy[Any]] = {
    "max_tokens": st.sampled_from([1, 1500, 2048, 100_000]),
    "temperature": st.sampled_from([0, 0.5, 1, 1.7]),
    "top_p": st.sampled_from([0.1, 0.97, 1]),
    "top_k": st.sampled_from([-1, 0, 40]),
    "reasoning_effort": st.sampled_from(["none", "minimal", "low", "medium", "high", "xhigh", "max"]),
    "stop": st.sampled_from([None, "END", ["a", " ", "\n"], []]),
    "stream": st.booleans(),
    "user": st.sampled_from(["u-1", "a@example.com", "+1 (555) 123-4567", "x" * 300]),
    "service_tier": st.sampled_from(["auto", "default", "priority", "flex"]),
    "cache_control": st.sampled_from([{"type": "ephemeral"}, {"type": "ephemeral", "ttl": "1h"}]),
    "seed": st.integers(0, 9),
    "aion_preferences": st.just({"tier": 2}),
    "response_format": st.sampled_from(
        [
            {"type": "text"},
            {"type": "json_object"},
            {"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMAS[2]}},
            {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}}},
        ]
    ),
}


@settings(max_examples=400, deadline=None)
@given(conversations(), TARGETS)
def test_a_conversation_becomes_one_that_anthropic_takes(body: dict[str, Any], target: MessagesTarget) -> None:
    translated = outcome(parse(orjson.dumps(body), Format.OPENAI), target)
    if isinstance(translated, RequestError):
        # Nothing to say at all, and what such a target cannot be sent.
        assert translated.code in ("empty_messages", "unsupported_content", "unsupported_prefill")
        assert translated.code != "unsupported_content" or not target.image_urls
        assert translated.code != "unsupported_prefill" or not target.prefill
        return
    sent = judge(translated, target)
    assert sent["max_tokens"] == body.get("max_tokens", target.max_tokens)
    assert sent.get("stream", False) == body.get("stream", False)
    for text in _texts(body):
        assert text.strip() in translated.body.decode() or text.strip() in "".join(_sent_texts(sent))


def _texts(body: dict[str, Any]) -> list[str]:
    texts = []
    for message in body["messages"]:
        content = message["content"]
        for part in [content] if isinstance(content, str) else content or []:
            texts.append(part if isinstance(part, str) else part.get("text", ""))
    return texts


def _sent_texts(value: Any) -> list[str]:
    if isinstance(value, list):
        return [text for item in value for text in _sent_texts(item)]
    if isinstance(value, dict):
        return [text for item in value.values() for text in _sent_texts(item)]
    return [value] if isinstance(value, str) else []


# Whatever else wire.request takes: every known field with any JSON in it.

JUNK = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=4)
    | st.sampled_from(["text", "function", "auto", "object", "id", "\ud83d", "ephemeral", PNG, "{}"]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(
            [
                *("type", "text", "name", "function", "arguments", "id", "content", "image_url", "url", "schema"),
                *("file", "file_data", "json_schema", "allowed_tools", "tools", "mode", "cache_control", "ttl"),
                *("parameters", "properties", "required", "$ref", "$defs", "anyOf", "items", "enum", "strict"),
            ]
        )
        | st.text(max_size=3),
        inner,
        max_size=4,
    ),
    max_leaves=8,
)
ROLES = st.sampled_from(["system", "developer", "user", "assistant", "tool", "function", "critic"])
PART = st.dictionaries(st.sampled_from(["text", "refusal", "image_url", "file", "cache_control", "x"]), JUNK).flatmap(
    lambda part: st.sampled_from(["text", "refusal", "image_url", "file", "input_audio", "x"]).map(
        lambda kind: {**part, "type": kind}
    )
)
MESSAGE = st.builds(
    lambda role, content, members: {**members, "role": role, **content},
    ROLES,
    st.fixed_dictionaries({}, optional={"content": st.none() | TEXT | st.lists(PART, max_size=2)}),
    st.dictionaries(
        st.sampled_from(
            [
                *("tool_calls", "tool_call_id", "function_call", "refusal", "audio", "name", "reasoning_details"),
                *("thinking_blocks", "reasoning_content", "cache_control", "other"),
            ]
        ),
        JUNK | st.lists(JUNK, max_size=2),
        max_size=3,
    ),
)
FIELDS = st.sampled_from(
    [
        *("temperature", "top_p", "top_k", "stop", "tool_choice", "functions", "function_call", "n", "audio", "user"),
        *("parallel_tool_calls", "response_format", "reasoning_effort", "safety_identifier", "service_tier"),
        *("cache_control", "modalities", "logprobs", "metadata", "stream_options", "logit_bias", "web_search_options"),
    ]
)
TOOLS = st.lists(
    JUNK | st.fixed_dictionaries({"type": st.just("function"), "function": JUNK}, optional={"cache_control": JUNK})
)


def _places(value: Any) -> list[tuple[Any, Any]]:
    """Every container in it with every key or index that it has."""
    items = list(value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ())
    return [place for key, item in items for place in ((value, key), *_places(item))]


@settings(max_examples=600, deadline=None)
@given(conversations(), st.integers(0), JUNK, TARGETS)
def test_one_thing_wrong_in_a_conversation(body: dict[str, Any], place: int, junk: Any, target: MessagesTarget) -> None:
    body = json.loads(json.dumps(body))  # its parts are shared between examples
    places = _places(body)
    container, key = places[place % len(places)]
    container[key] = junk
    try:
        request = parse(json.dumps(body).encode(), Format.OPENAI)
    except RequestError:
        return
    translated = outcome(request, target)
    if isinstance(translated, Translated):
        judge(translated, target)
    else:
        assert translated.status == 400


@settings(max_examples=300, deadline=None)
@given(
    st.lists(MESSAGE, min_size=1, max_size=4),
    st.dictionaries(FIELDS | st.text(max_size=60), JUNK, max_size=4),
    st.none() | TOOLS,
    TARGETS,
)
@example([{"role": "user", "content": "x"}], {"\ud83d": 1, "é" * 60: 2}, None, MessagesTarget())
def test_whatever_a_client_sends_is_translated_or_refused(
    messages: list[dict[str, Any]], fields: dict[str, Any], tools: Any, target: MessagesTarget
) -> None:
    raw = json.dumps({**fields, "model": "m", "messages": messages, "tools": tools}).encode()
    try:
        request = parse(raw, Format.OPENAI)
    except RequestError:
        return
    translated = outcome(request, target)
    if isinstance(translated, RequestError):
        assert translated.code
        assert translated.message
        assert translated.status == 400
        return
    judge(translated, target)


@pytest.mark.parametrize("levels", [100, 300, 900])
def test_depth_is_no_trap(levels: int) -> None:
    deep = b'{"a":' * levels + b"1" + b"}" * levels
    tool = b'{"type":"function","function":{"name":"f","parameters":' + deep + b"}}"
    for body in (
        b'"tools":[' + tool + b"]",
        b'"tools":[' + tool + b"," + tool + b"]",
        b'"response_format":{"type":"json_schema","json_schema":{"name":"n","schema":' + deep + b"}}",
        b'"metadata":' + deep,
    ):
        raw = b'{"model":"m","messages":[{"role":"user","content":"x"}],' + body + b"}"
        translated = outcome(parse(raw, Format.OPENAI), MessagesTarget())
        assert not isinstance(translated, RequestError) or translated.code == "too_deep"
