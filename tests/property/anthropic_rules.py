"""Requests as Anthropic's Messages API would judge them: its SDK's own types, and the rules on turns, calls and results
that no type says."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Union

import orjson
from anthropic.types.message_create_params import MessageCreateParamsNonStreaming, MessageCreateParamsStreaming
from pydantic import TypeAdapter
from pydantic_core import SchemaValidator

from aion_extproc.wire.translate.target import MessagesTarget, Translated

LEGAL = re.compile(r"[a-zA-Z0-9_-]+")


def _strict(schema: Any) -> Any:
    """pydantic's schema of the SDK's types, made to say no: unknown members, lists that are not looked into, and the
    models of answers, which take anything."""
    if isinstance(schema, list):
        return [_strict(item) for item in schema]
    if isinstance(schema, tuple):
        return tuple(_strict(item) for item in schema)
    if not isinstance(schema, dict):
        return schema
    if schema.get("type") == "model":
        return {"type": "none", **({"ref": schema["ref"]} if "ref" in schema else {})}
    schema = {key: value if key == "metadata" else _strict(value) for key, value in schema.items()}
    if schema.get("type") == "generator":
        schema["type"] = "list"
    open_ended = schema.get("extra_behavior") == "allow" or (schema.get("config") or {}).get("extra_fields_behavior")
    if schema.get("type") == "typed-dict" and not open_ended:
        schema["extra_behavior"] = "forbid"
    return schema


_PARAMS = Union[MessageCreateParamsNonStreaming, MessageCreateParamsStreaming]  # noqa: UP007
CREATE = SchemaValidator(_strict(TypeAdapter(_PARAMS).core_schema))
# The SDK's types leave them out, since the newest models do not take them; older ones do.
SAMPLING = ("temperature", "top_p", "top_k")


def judge(translated: Translated, target: MessagesTarget) -> dict[str, Any]:
    body: dict[str, Any] = orjson.loads(translated.body)
    CREATE.validate_python({key: value for key, value in body.items() if key not in SAMPLING}, strict=True)
    _judge_turns(body, target)
    _judge_tools(body, target, translated)
    _judge_settings(body, target)
    assert list(translated.dropped) == sorted(set(translated.dropped))
    assert all(name.isascii() and len(name) < 100 for name in translated.dropped)
    assert "aion_preferences" not in (*body, *translated.dropped)
    return body


def _judge_turns(body: dict[str, Any], target: MessagesTarget) -> None:
    every = [message["role"] for message in body["messages"]]
    for place, role in enumerate(every):
        if role == "system":
            assert target.system_turns
            assert every[place - 1] == "user"
            assert every[place + 1 :][:1] in ([], ["assistant"])
    assert target.prefill or every[-1] != "assistant"
    roles = [role for role in every if role != "system"]
    assert roles == ["user" if number % 2 == 0 else "assistant" for number in range(len(roles))]
    calls: list[str] = []
    seen: set[str] = set()
    for message in body["messages"]:
        content = message["content"]
        assert content
        kinds = [block["type"] for block in content]
        if message["role"] == "system":
            assert set(kinds) == {"text"}
        elif message["role"] == "user":
            results = [block["tool_use_id"] for block in content if block["type"] == "tool_result"]
            assert sorted(results) == sorted(calls)
            assert kinds[: len(results)] == ["tool_result"] * len(results)
            calls = []
        else:
            assert kinds == sorted(kinds, key=["thinking", "redacted_thinking", "text", "tool_use"].index) or set(
                kinds
            ) >= {"thinking", "redacted_thinking"}
            calls = [block["id"] for block in content if block["type"] == "tool_use"]
            assert all(LEGAL.fullmatch(call) for call in calls)
            assert len(set(calls)) == len(calls)
            assert not seen & set(calls)
            seen.update(calls)
        _judge_texts(content)
    assert not calls
    _judge_texts(body.get("system", []))
    last = body["messages"][-1]
    if last["role"] == "assistant":
        assert last["content"][-1]["text"] == last["content"][-1]["text"].rstrip()


def _judge_texts(content: list[dict[str, Any]]) -> None:
    for block in content:
        if block["type"] == "text":
            assert block["text"].strip()
        elif block["type"] == "tool_result":
            _judge_texts(block.get("content", []))


def _judge_tools(body: dict[str, Any], target: MessagesTarget, translated: Translated) -> None:
    names = [tool["name"] for tool in body.get("tools", [])]
    used = [
        block["name"] for message in body["messages"] for block in message["content"] if block["type"] == "tool_use"
    ]
    for name in [*names, *used]:
        assert LEGAL.fullmatch(name)
        assert len(name) <= target.longest_tool_name
    assert len(set(names)) == len(names)
    assert names or not used
    assert all(tool["input_schema"]["type"] == "object" for tool in body.get("tools", []))
    choice = body.get("tool_choice")
    assert choice is None or names
    assert target.forced_tools or choice is None or choice["type"] in ("auto", "none")
    if choice is not None and choice["type"] == "tool":
        assert choice["name"] in names
    assert all(sent != name for sent, name in translated.tool_names.items())


def _judge_settings(body: dict[str, Any], target: MessagesTarget) -> None:
    assert body["max_tokens"] >= 1
    assert sum("cache_control" in holder for holder in _holders(body)) <= (4 if target.cache_control else 0)
    mode = body.get("thinking", {}).get("type")
    assert mode in (None, "adaptive", "enabled", target.unthinking)
    thinks = body.get("thinking", {}).get("type") in ("adaptive", "enabled")
    if thinks:
        assert target.thinking
        assert "temperature" not in body
        assert "top_k" not in body
        assert body.get("top_p", 1) >= 0.95
        assert body.get("tool_choice", {}).get("type") not in ("any", "tool")
        assert body["messages"][-1]["role"] != "assistant"
        assert body["thinking"].get("budget_tokens", 0) < body["max_tokens"]
    assert 0 <= body.get("temperature", 0) <= 1
    assert not {"temperature", "top_p"} <= body.keys()
    assert target.sampling or not set(SAMPLING) & body.keys()
    output = body.get("output_config", {})
    assert target.effort or "effort" not in output
    assert output.get("effort") != "xhigh" or target.xhigh
    assert output.get("effort") != "max" or target.max_effort
    if "format" in output:
        assert target.json_schema
        assert body["messages"][-1]["role"] != "assistant"
    assert all(stop.strip() for stop in body.get("stop_sequences", []))


def _holders(body: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """All that may have a cache_control."""
    yield body
    yield from body.get("tools", [])
    for content in (body.get("system", []), *(message["content"] for message in body["messages"])):
        for block in content:
            yield block
            yield from block.get("content", []) if block["type"] == "tool_result" else []
