"""Whole Messages conversations as chat completions: what comes out is what OpenAI's own types say, and nothing but
RequestError is raised for anything that a request may hold."""

from __future__ import annotations

import json
import re
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from openai.types.chat.completion_create_params import CompletionCreateParams
from pydantic import TypeAdapter

from aion_extproc.wire.errors import RequestError
from aion_extproc.wire.format import Format
from aion_extproc.wire.request import parse
from aion_extproc.wire.translate.request_to_chat import to_chat
from aion_extproc.wire.translate.target import ChatTarget, Translated
from tests.property.documents import requests

QUICK = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
CHAT: TypeAdapter[Any] = TypeAdapter(CompletionCreateParams)

TARGETS = st.builds(
    ChatTarget,
    max_tokens=st.sampled_from(["max_tokens", "max_completion_tokens"]),
    reasoning_effort=st.booleans(),
    tools_need_no_reasoning=st.booleans(),
    reasoning=st.sampled_from(["", "reasoning_content", "reasoning", "reasoning_details"]),
    cache_control=st.booleans(),
    files=st.just(True),
    image_urls=st.just(True),
    json_schema=st.booleans(),
    parallel_tool_calls=st.booleans(),
    user=st.booleans(),
    longest_tool_name=st.sampled_from([64, 20]),
    sampling=st.booleans(),
    stream_options=st.booleans(),
    call_ids=st.sampled_from(["any", "nine"]),
    order=st.sampled_from(["any", "mistral"]),
)
WORDS = st.sampled_from(["hi", "two\nlines", "é😀 世界", "Error: no", "  "])
NAMES = st.sampled_from(["Read", "mcp__server__a.b", "x" * 90, "y" * 90 + "z"])
CACHED = {"cache_control": {"type": "ephemeral", "ttl": "1h"}}
MAYBE_CACHED: st.SearchStrategy[dict[str, Any]] = st.sampled_from([{}, {}, CACHED, {"cache_control": None}])
IMAGES = st.sampled_from(
    [
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBO"}},
        {"type": "image", "source": {"type": "url", "url": "https://x.test/a.png"}},
    ]
)


@st.composite
def texts(draw: st.DrawFn) -> dict[str, Any]:
    return {"type": "text", "text": draw(WORDS), **draw(MAYBE_CACHED)}


@st.composite
def documents(draw: st.DrawFn) -> dict[str, Any]:
    source = draw(
        st.sampled_from(
            [
                {"type": "base64", "media_type": "application/pdf", "data": "JVBE"},
                {"type": "text", "media_type": "text/plain", "data": "plain"},
                {"type": "content", "content": "said"},
                {"type": "content", "content": [{"type": "text", "text": "said"}]},
            ]
        )
    )
    return {"type": "document", "source": source, "title": draw(st.sampled_from([None, "T"])), **draw(MAYBE_CACHED)}


SEARCHES = st.builds(
    lambda text: {"type": "search_result", "title": "T", "source": "s", "content": [{"type": "text", "text": text}]},
    WORDS,
)
SHOWN = texts() | IMAGES | documents() | SEARCHES
THOUGHTS = st.sampled_from(
    [
        {"type": "thinking", "thinking": "hm", "signature": "sig"},
        {"type": "thinking", "thinking": "", "signature": ""},
        {"type": "redacted_thinking", "data": "xyz"},
    ]
)
SERVED = st.sampled_from(
    [
        {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {"query": "q"}},
        {
            "type": "web_search_tool_result",
            "tool_use_id": "s",
            "content": [{"type": "web_search_result", "title": "T", "url": "u", "encrypted_content": "z"}],
        },
    ]
)


NOTES: st.SearchStrategy[dict[str, Any]] = st.sampled_from(
    [{}, {"clear_at": "next_user_message"}, {"output_config": {"effort": "low"}}]
)


@st.composite
def conversations(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Turns as the API takes them: every call is answered by the next user turn, alone or with more."""
    turns: list[dict[str, Any]] = []
    count = 0
    for _ in range(draw(st.integers(1, 4))):
        said = draw(st.lists(SHOWN, min_size=1, max_size=3))
        turns.append({"role": "user", "content": draw(st.sampled_from([said, "plain"]))})
        if draw(st.booleans()):
            note = draw(NOTES)
            turns.append({"role": "system", "content": draw(st.lists(texts(), max_size=2)), **note})
        if draw(st.booleans()):
            turns.append({"role": "user", "content": "more"})
        for _ in range(draw(st.integers(0, 2))):
            calls = []
            for _ in range(draw(st.integers(1, 3))):
                count += 1
                id = f"toolu_{count}" + "x" * draw(st.sampled_from([0, 60]))
                given = draw(st.dictionaries(st.sampled_from("ab"), WORDS | st.integers() | st.none()))
                calls.append({"type": "tool_use", "id": id, "name": draw(NAMES), "input": given})
            blocks = [*draw(st.lists(THOUGHTS | texts() | SERVED, max_size=2)), *calls]
            turns.append({"role": "assistant", "content": draw(st.permutations(blocks))})
            results = []
            for call in draw(st.permutations(calls)):
                inside = draw(st.sampled_from(["text", "", None]) | st.lists(SHOWN, max_size=3))
                result = {"type": "tool_result", "tool_use_id": call["id"], "is_error": draw(st.booleans())}
                results.append({**result, "content": inside, **draw(MAYBE_CACHED)})
            turns.append({"role": "user", "content": [*results, *draw(st.lists(SHOWN, max_size=2))]})
        turns.append({"role": "assistant", "content": draw(st.lists(THOUGHTS | texts() | SERVED, max_size=3))})
    return turns


@st.composite
def bodies(draw: st.DrawFn) -> dict[str, Any]:
    schema = {"type": "object", "properties": {"a": {"type": "string"}}}
    names = draw(st.lists(NAMES, unique=True))
    tools: list[Any] = [{"name": name, "input_schema": schema, **draw(MAYBE_CACHED)} for name in names]
    if draw(st.booleans()):
        tools.append({"type": "web_search_20250305", "name": "web_search"})
    optional = {
        "system": st.lists(texts(), max_size=2) | WORDS,
        "temperature": st.floats(0, 1),
        "top_k": st.integers(1, 9),
        "stop_sequences": st.lists(WORDS, max_size=4),
        "stream": st.booleans(),
        "metadata": st.fixed_dictionaries({"user_id": st.sampled_from([None, "u", "u" * 150])}),
        "thinking": st.sampled_from(
            [{"type": "adaptive", "display": None}, {"type": "enabled", "budget_tokens": 2048}, {"type": "disabled"}]
        ),
        "output_config": st.sampled_from(
            [{"effort": "max"}, {"format": {"type": "json_schema", "schema": schema}}, {"effort": None}]
        ),
        "tool_choice": st.sampled_from([{"type": "auto"}, {"type": "any", "disable_parallel_tool_use": True}]),
        "service_tier": st.sampled_from(["auto", "standard_only"]),
    }
    fields = draw(st.fixed_dictionaries({}, optional=optional))
    return {"model": "aion-auto", "max_tokens": 100, "messages": draw(conversations()), "tools": tools, **fields}


def exhaust(value: Any) -> None:
    """Pydantic checks an Iterable only as it is walked through."""
    if isinstance(value, dict):
        for inner in value.values():
            exhaust(inner)
    elif not isinstance(value, str | int | float | None):
        for inner in value:
            exhaust(inner)


@settings(QUICK, max_examples=300)
@given(body=bodies(), target=TARGETS)
def test_what_comes_out_is_a_chat_request(body: dict[str, Any], target: ChatTarget) -> None:
    out = to_chat(parse(json.dumps(body).encode(), Format.ANTHROPIC), "small", target)
    chat = json.loads(out.body)
    exhaust(CHAT.validate_python(chat))
    assert chat["model"] == "small"
    assert list(out.dropped) == sorted(set(out.dropped))
    names = {tool["function"]["name"] for tool in chat.get("tools", ())}
    assert all(len(name) <= target.longest_tool_name for name in names | out.tool_names.keys())
    called: list[str] = []
    answered: set[str] = set()
    for message in chat["messages"]:
        if message["role"] == "tool":
            # Directly after the calls: nothing else has come between.
            assert message["tool_call_id"] in set(called) - answered
            answered.add(message["tool_call_id"])
            continue
        assert answered == set(called)
        called, answered = [call["id"] for call in message.get("tool_calls", ())], set()
        assert all(legal_id(id, target) for id in called)
        assert len(set(called)) == len(called)
        if message["role"] == "assistant":
            assert message["content"] or called or message.keys() - {"role", "content"}
    if target.order == "mistral":
        check_mistrals_order(chat["messages"])
    assert target.sampling or not {"temperature", "top_p"} & chat.keys()
    assert target.stream_options or "stream_options" not in chat


def legal_id(id: str, target: ChatTarget) -> bool:
    return len(id) <= 40 if target.call_ids == "any" else re.fullmatch("[a-zA-Z0-9]{9}", id) is not None


def check_mistrals_order(messages: list[dict[str, Any]]) -> None:
    """As its validator has it: https://github.com/mistralai/mistral-common, protocol/instruct/validator.py."""
    after = {
        "system": {"user", "assistant", "system"},
        "user": {"assistant", "system", "user"},
        "assistant": {"assistant", "user", "tool"},
        "tool": {"assistant", "tool"},
    }
    for one, other in pairwise(messages):
        assert other["role"] in after[one["role"]]
    if messages[-1]["role"] == "assistant" and "tool_calls" not in messages[-1]:
        assert messages[-1]["prefix"] is True


def blocks_of(body: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        block
        for turn in body["messages"]
        if turn["role"] != "system" and isinstance(turn["content"], list)
        for block in turn["content"]
    ]


@settings(QUICK, max_examples=200)
@given(body=bodies(), target=TARGETS)
def test_no_text_call_or_image_is_lost(body: dict[str, Any], target: ChatTarget) -> None:
    out = to_chat(parse(json.dumps(body).encode(), Format.ANTHROPIC), "small", target)
    chat = json.loads(out.body)
    said = json.dumps(chat["messages"], ensure_ascii=False)
    blocks = blocks_of(body)
    inner = [part for block in blocks if isinstance(block.get("content"), list) for part in block["content"]]
    for block in (*blocks, *inner):
        if block["type"] == "text":
            assert json.dumps(block["text"], ensure_ascii=False)[1:-1] in said
    images = sum(block["type"] == "image" for block in (*blocks, *inner))
    assert said.count('"type": "image_url"') == images
    calls = [call for message in chat["messages"] for call in message.get("tool_calls", ())]
    used = [block for block in blocks if block["type"] == "tool_use"]
    functions = [call["function"] for call in calls]
    called = [[out.tool_names.get(one["name"], one["name"]), json.loads(one["arguments"])] for one in functions]
    assert sorted(map(str, called)) == sorted(str([block["name"], block["input"]]) for block in used)


SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
KEYS = st.sampled_from(["type", "content", "text", "source", "name", "input", "id", "tool", "data", "definition"])
# Every word that means something as the type of something.
KINDS = st.sampled_from(
    [
        *("text", "image", "document", "search_result", "thinking", "redacted_thinking", "tool_use", "tool_result"),
        *("server_tool_use", "web_search_tool_result", "mcp_tool_use", "mcp_tool_listing", "container_upload"),
        *("compaction", "fallback", "tool_addition", "tool_removal", "tool_reference", "tool_definition", "any"),
        *("browser_state", "adaptive", "enabled", "json_schema", "tool", "continue", "base64", "content", "url"),
    ]
)
JUNK = st.recursive(
    SCALARS | st.sampled_from(["", "text", "é", "\ud83d"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner | KINDS, max_size=4),
    max_leaves=8,
)
EXTRAS = st.sampled_from(["type", "content", "citations", "cache_control", "tool", "output_config", "clear_at"])


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [path] if path else []
    items: Any = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        found.extend(places(inner, (*path, key)))
    return found


def change(value: Any, path: tuple[Any, ...], junk: Any, extra: dict[str, Any] | None) -> Any:
    """With `junk` at this place, or with `extra` members in the object that is there."""
    if not path:
        return {**value, **extra} if extra is not None and isinstance(value, dict) else junk
    copied = dict(value) if isinstance(value, dict) else list(value)
    copied[path[0]] = change(copied[path[0]], path[1:], junk, extra)
    return copied


def attempt(raw: bytes, target: ChatTarget) -> Translated | None:
    """None: refused, in the only way that is allowed."""
    try:
        return to_chat(parse(raw, Format.ANTHROPIC), "small", target)
    except RequestError as error:
        if error.status != 400 or not (error.param or "").isascii():
            raise AssertionError("not a refusal that a client can read") from error
        return None


@settings(QUICK, max_examples=600)
@given(body=bodies(), target=TARGETS, data=st.data())
def test_only_request_error_is_raised_whatever_is_wrong(body: Any, target: ChatTarget, data: st.DataObject) -> None:
    for _ in range(data.draw(st.integers(1, 3))):
        path, junk = data.draw(st.sampled_from(places(body))), data.draw(JUNK | KINDS)
        extra = {data.draw(EXTRAS): junk} if data.draw(st.booleans()) else None
        body = change(body, path, junk, extra)
    out = attempt(json.dumps(body).encode(), target)
    event("refused" if out is None else "translated")
    if out is not None:
        assert isinstance(json.loads(out.body), dict)
        assert all(name.isascii() and len(name) <= 40 for name in out.dropped)


@settings(QUICK, max_examples=300)
@given(raw=requests(), target=TARGETS)
def test_documents_of_all_spellings(raw: bytes, target: ChatTarget) -> None:
    out = attempt(raw, target)
    event("refused" if out is None else "translated")
    if out is not None:
        assert json.loads(out.body)["model"] == "small"


@pytest.mark.parametrize("levels", [200, 300, 600, 1000])
def test_depth_is_translated_or_refused(levels: int) -> None:
    deep = b'{"a":' * levels + b"1" + b"}" * levels
    tools = b'"tools":[{"name":"x","input_schema":' + deep + b"}]"
    call = b'{"role":"assistant","content":[{"type":"tool_use","id":"a","name":"x","input":' + deep + b"}]}"
    nested = b'{"type":"tool_result","tool_use_id":"a","content":[' * (levels // 3)
    for raw in (
        b'{"model":"m","messages":[{"role":"user","content":"x"}],' + tools + b"}",
        b'{"model":"m","messages":[' + call + b"]}",
        b'{"model":"m","messages":[{"role":"user","content":[' + nested + b"]}" * (levels // 3) + b"]}]}",
    ):
        out = attempt(raw, ChatTarget())
        assert out is not None or levels > 200 or nested in raw
