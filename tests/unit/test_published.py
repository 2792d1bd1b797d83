"""The stand-ins for providers refuse what the real ones would, and take what those take."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support.published import chat_problems, messages_problems

HELLO: Any = [{"role": "user", "content": "hello"}]
USED = {"type": "tool_use", "id": "toolu_1", "name": "now", "input": {}}
RESULT = {"type": "tool_result", "tool_use_id": "toolu_1", "content": "noon"}
CALL = {"id": "call_1", "type": "function", "function": {"name": "now", "arguments": "{}"}}
TOOL = {"name": "now", "input_schema": {"type": "object"}}
FUNCTION = {"type": "function", "function": {"name": "now", "parameters": {"type": "object"}}}
THINK = {"type": "enabled", "budget_tokens": 1024}
OPEN = {"type": "object", "properties": {"a": {"type": "string"}}}
CLOSED = {**OPEN, "required": ["a"], "additionalProperties": False}


def chat(**more: Any) -> str:
    body = {"model": "gpt-4.1", "messages": HELLO, **more}
    return "; ".join(chat_problems(json.dumps(body).encode()))


def message(version: str = "2023-06-01", beta: bool = False, **more: Any) -> str:
    body = {"model": "claude-haiku-4-5", "max_tokens": 2000, "messages": HELLO, **more}
    return "; ".join(messages_problems(json.dumps(body).encode(), version=version, beta=beta))


def asking(*content: Any) -> dict[str, Any]:
    return {"role": "user", "content": list(content)}


def saying(*content: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": list(content)}


def text(said: str, **more: Any) -> dict[str, Any]:
    return {"type": "text", "text": said, **more}


def calling(*calls: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": None, "tool_calls": list(calls)}


def answered(call: str = "call_1") -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": call, "content": "noon"}


def formatted(schema: Any, strict: bool = True) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema, "strict": strict}}


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"stream": True, "stream_options": {"include_usage": True}},
        {"messages": [*HELLO, calling(CALL), answered()], "tools": [FUNCTION], "tool_choice": "required"},
        {"messages": [{"role": "developer", "content": [text("Be brief.")]}, *HELLO], "parallel_tool_calls": None}
        | {"tools": [FUNCTION], "parallel_tool_calls": False},
        {"response_format": formatted(CLOSED), "temperature": 2, "stop": ["a", "b", "c", "d"], "max_tokens": 5},
        {"response_format": formatted(OPEN, strict=False)},
        {"model": "gpt-5-mini", "reasoning_effort": "low", "max_completion_tokens": 5},
        {"model": "gpt-5.4", "temperature": 0.5},
        {"model": "gpt-6", "tools": [FUNCTION], "reasoning_effort": "none", "temperature": 0.5},
        {"model": "any", "temperature": 0.5, "max_tokens": 5},
    ],
)
def test_chat_that_is_taken(more: dict[str, Any]) -> None:
    assert chat(**more) == ""


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"top_k": 5}, "top_k: Extra inputs"),
        ({"messages": [{**HELLO[0], "cache_control": {}}]}, "cache_control: Extra inputs"),
        ({"messages": [{"role": "assistant", "content": "a", "reasoning_content": "b"}]}, "reasoning_content: Extra"),
        ({"messages": [asking(text("a", cache_control={"type": "ephemeral"}))]}, "cache_control: Extra inputs"),
        ({"messages": []}, "too short"),
        ({"messages": [{"role": "user", "content": None}]}, "content"),
        ({"messages": [{"role": "assistant", "content": None}]}, "content"),
        ({"messages": [asking()]}, "non-empty list"),
        ({"messages": [calling()]}, "content"),
        ({"messages": [answered()]}, "must be a response to a preceding message"),
        ({"messages": [calling(CALL), *HELLO]}, "must be followed by tool messages"),
        ({"messages": [calling(CALL)]}, "without an answer"),
        ({"messages": [calling(CALL), answered("call_2"), answered()]}, "must be a response"),
        ({"messages": [calling({**CALL, "id": "c" * 41}), answered("c" * 41)]}, "too long"),
        ({"messages": [calling({**CALL, "function": {"name": "a.b", "arguments": "{}"}}), answered()]}, "pattern"),
        ({"messages": [calling({**CALL, "function": {"name": "a", "arguments": ""}}), answered()]}, "not an object"),
        ({"messages": [calling({**CALL, "function": {"name": "a", "arguments": {}}}), answered()]}, "valid string"),
        ({"tools": []}, "tools: 0"),
        ({"tools": [{"type": "function", "function": {"name": "n" * 65}}]}, "pattern"),
        ({"tools": [{"type": "function", "function": {"name": "n", "parameters": {"type": "string"}}}]}, "'object'"),
        ({"tools": [{"type": "function", "function": {"name": "n", "strict": True, "parameters": OPEN}}]}, "required"),
        ({"tools": [{**FUNCTION, "cache_control": {"type": "ephemeral"}}]}, "cache_control: Extra"),
        ({"tool_choice": "auto"}, "only allowed when 'tools'"),
        ({"parallel_tool_calls": True}, "only allowed when 'tools'"),
        ({"tools": [FUNCTION], "tool_choice": {"type": "function", "function": {"name": "x"}}}, "none of the tools"),
        ({"stream_options": {"include_usage": True}}, "only allowed when 'stream'"),
        ({"max_tokens": 5, "max_completion_tokens": 5}, "cannot both"),
        ({"max_tokens": 0}, "minimum"),
        ({"max_tokens": "5"}, "valid integer"),
        ({"temperature": 2.5}, "temperature"),
        ({"stop": list("abcde")}, "stop"),
        ({"stop": []}, "stop"),
        ({"user": "u" * 65}, "user"),
        ({"top_logprobs": 2}, "logprobs"),
        ({"response_format": formatted(OPEN)}, "additionalProperties"),
        ({"response_format": formatted({**CLOSED, "required": []})}, "every key"),
        ({"response_format": {"type": "json_schema", "json_schema": {"name": "an answer", "schema": {}}}}, "pattern"),
        ({"response_format": {"type": "json_object"}}, "the word 'json'"),
        ({"reasoning_effort": "low"}, "reasoning_effort"),
        ({"model": "gpt-5-mini", "max_tokens": 5}, "max_completion_tokens"),
        ({"model": "gpt-5-mini", "temperature": 0.5}, "temperature"),
        ({"model": "gpt-5.4", "temperature": 0.5, "reasoning_effort": "low"}, "temperature"),
        ({"model": "gpt-6", "tools": [FUNCTION]}, "Function tools"),
        ({"model": "o4-mini", "stop": "a"}, "stop"),
    ],
)
def test_chat_that_is_refused(more: dict[str, Any], said: str) -> None:
    assert said in chat(**more)


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"stream": True, "system": [text("Be brief.", cache_control={"type": "ephemeral", "ttl": "1h"})]},
        {"messages": [*HELLO, saying(text("So."), USED), asking(RESULT, text("And?"))], "tools": [TOOL]},
        {"messages": [*HELLO, saying(USED), asking(RESULT), asking(text("And?"))], "tools": [TOOL]},
        {"temperature": 0.5, "top_k": 5, "stop_sequences": list("abcde")},
        {"thinking": THINK, "temperature": 1, "tools": [TOOL], "tool_choice": {"type": "auto"}},
        {"model": "claude-opus-5-5", "thinking": {"type": "adaptive"}, "output_config": {"effort": "low"}},
        {"output_config": {"format": {"type": "json_schema", "schema": CLOSED}}},
        {"beta": True, "context_management": {"edits": []}},
    ],
)
def test_messages_that_are_taken(more: dict[str, Any]) -> None:
    assert message(**more) == ""


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"seed": 1}, "seed: Extra inputs"),
        ({"context_management": {"edits": []}}, "context_management: Extra inputs"),
        ({"betas": ["x"]}, "betas: Extra inputs"),
        ({"max_tokens": None}, "max_tokens"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"messages": []}, "at least one"),
        ({"messages": [saying(text("a")), *HELLO]}, "first message"),
        ({"messages": [{**HELLO[0], "name": "Zoe"}]}, "name: Extra inputs"),
        ({"messages": [asking(text("a", foo=1))]}, "foo: Extra inputs"),
        ({"messages": [asking()]}, "non-empty content"),
        ({"messages": [asking(text(""))]}, "must be non-empty"),
        ({"messages": [asking(text(" \n"))]}, "non-whitespace"),
        ({"messages": [{"role": "user", "content": ""}]}, "must be non-empty"),
        ({"system": ""}, "must be non-empty"),
        ({"messages": [*HELLO, saying(USED), asking(text("And?"))]}, "without `tool_result`"),
        ({"messages": [*HELLO, saying(USED)]}, "without tool_result"),
        ({"messages": [*HELLO, saying(USED), asking(text("a"), RESULT)]}, "must come first"),
        ({"messages": [*HELLO, saying(USED), asking(RESULT, RESULT)]}, "single result"),
        ({"messages": [asking(RESULT)]}, "unexpected `tool_use_id`"),
        ({"messages": [*HELLO, saying(USED, USED), asking(RESULT)]}, "unique"),
        ({"messages": [*HELLO, saying({**USED, "id": "functions.now:0"}), asking(RESULT)]}, "pattern"),
        ({"messages": [*HELLO, saying({**USED, "name": "a b"}), asking(RESULT)]}, "pattern"),
        ({"messages": [*HELLO, saying({**USED, "input": "{}"}), asking(RESULT)]}, "input"),
        ({"messages": [*HELLO, saying(text("a ")), *HELLO, saying(text("b "))]}, "trailing whitespace"),
        ({"messages": [*HELLO, saying({"type": "thinking", "thinking": "a"}), *HELLO]}, "signature"),
        (
            {"messages": [*HELLO, saying({"type": "thinking", "thinking": "a", "signature": ""}), *HELLO]},
            "Invalid `signature`",
        ),
        ({"messages": [asking(*(text("a", cache_control={"type": "ephemeral"}) for _ in range(5)))]}, "maximum of 4"),
        ({"tools": [{**TOOL, "name": "n" * 129}]}, "pattern"),
        ({"tools": [TOOL, TOOL]}, "unique"),
        ({"tools": [{"name": "now", "input_schema": {}}]}, "'object'"),
        ({"tools": [{"name": "now", "input_schema": {"type": "object", "anyOf": []}}]}, "top level"),
        ({"tools": [{"name": "now", "input_schema": OPEN, "strict": True}]}, "additionalProperties"),
        ({"tool_choice": {"type": "auto"}}, "while providing tools"),
        ({"tools": [TOOL], "tool_choice": {"type": "tool", "name": "x"}}, "not found"),
        ({"tools": [TOOL], "tool_choice": "auto"}, "tool_choice"),
        ({"temperature": 1.5}, "temperature"),
        ({"temperature": 0.5, "top_p": 0.5}, "cannot both"),
        ({"model": "claude-opus-5-5", "temperature": 1}, "deprecated"),
        ({"version": "2026-10-21", "temperature": 1}, "temperature: Extra inputs"),
        ({"stop_sequences": ["\n"]}, "non-whitespace"),
        ({"metadata": {"user_id": "u" * 257}}, "user_id"),
        ({"metadata": {"session": "u"}}, "session: Extra"),
        ({"thinking": {"type": "enabled", "budget_tokens": 1023}}, "1024"),
        ({"thinking": {"type": "enabled", "budget_tokens": 2000}}, "below max_tokens"),
        ({"thinking": THINK, "temperature": 0.5}, "only be set to 1"),
        ({"thinking": THINK, "top_k": 5}, "top_k"),
        ({"thinking": THINK, "tools": [TOOL], "tool_choice": {"type": "any"}}, "forces tool use"),
        ({"thinking": THINK, "messages": [*HELLO, saying(USED), asking(RESULT)]}, "Expected `thinking`"),
        ({"thinking": {"type": "adaptive"}}, "not supported"),
        ({"model": "claude-opus-5-5", "thinking": THINK}, "not supported"),
        ({"model": "claude-opus-5-5", "messages": [*HELLO, saying(text("So"))]}, "prefill"),
        ({"output_config": {"format": {"type": "json_schema", "schema": OPEN}}}, "additionalProperties"),
        (
            {"output_config": {"format": {"type": "json_schema", "schema": {"type": "integer", "minimum": 1}}}},
            "'minimum' is not supported",
        ),
    ],
)
def test_messages_that_are_refused(more: dict[str, Any], said: str) -> None:
    assert said in message(**more)


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b'"\xff"'])
def test_what_is_no_request(raw: bytes) -> None:
    assert chat_problems(raw)
    assert messages_problems(raw)
