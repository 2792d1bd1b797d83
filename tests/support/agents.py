"""Requests as agents send them: a system prompt, tools, and turns that call them."""

from __future__ import annotations

import json
from typing import Any

_RULE = "When the user asks for a change, read the file first, make the smallest edit that works and run the tests. "
_PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
_LINES = "    return total  # a line of a file — 世界\n" * 20


def _schema(number: int) -> dict[str, Any]:
    text = {"type": "string", "description": "An absolute path, never one relative to where the shell happens to be."}
    return {
        "type": "object",
        "properties": {f"argument_{number}": text, "all": {"type": "array", "items": {"type": "integer"}}},
        "required": [f"argument_{number}"],
        "additionalProperties": False,
        "$schema": "http://json-schema.org/draft-07/schema#",
    }


def chat_agent(rounds: int = 3, tools: int = 4) -> dict[str, Any]:
    """As a client of OpenAI's Python SDK sends it that gives the answers back as it got them. A round is five messages,
    of two calls and their results."""
    messages: list[dict[str, Any]] = [
        {"role": "system", "content": _RULE * 10},
        {"role": "developer", "content": [{"type": "text", "text": "Be brief."}]},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "What is wrong with this?"},
                {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{_PIXEL}", "detail": "low"}},
            ],
        },
    ]
    for number in range(rounds):
        ids = [f"call_{number}", f"call_{number}b"]
        arguments = json.dumps({f"argument_{number % tools}": "/src/é.py", "all": [1, 2]})
        function = {"name": f"tool_{number % tools}", "arguments": arguments}
        calls = [
            {"id": ids[0], "function": function, "type": "function"},
            {"id": ids[1], "function": {"name": "now", "arguments": ""}, "type": "function"},
        ]
        empty: dict[str, Any] = {"refusal": None, "annotations": [], "audio": None, "function_call": None}
        messages += [
            {"content": None, "role": "assistant", **empty, "tool_calls": calls},
            {"role": "tool", "tool_call_id": ids[1], "content": "12:00"},
            {"role": "tool", "tool_call_id": ids[0], "content": [{"type": "text", "text": _LINES}]},
            {"content": "I have looked at it.", "role": "assistant", **empty, "tool_calls": None},
            {"role": "user", "content": "Go on, then."},
        ]
    functions: list[dict[str, Any]] = [
        {"name": f"tool_{number}", "description": f"Tool {number}. {_RULE * 3}", "parameters": _schema(number)}
        for number in range(tools)
    ]
    functions.append({"name": "now", "parameters": {"type": "object", "properties": {}}, "strict": True})
    return {
        "model": "aion-auto",
        "messages": messages,
        "tools": [{"type": "function", "function": function} for function in functions],
        "tool_choice": "auto",
        "parallel_tool_calls": True,
        "temperature": 0.2,
        "max_completion_tokens": 4000,
        "stop": ["END"],
        "response_format": {"type": "json_schema", "json_schema": {"name": "answer", "schema": _schema(0)}},
        "reasoning_effort": "low",
        "stream": True,
        "stream_options": {"include_usage": True},
        "user": "user-1",
        "seed": 1,
    }


def messages_agent(rounds: int = 3, tools: int = 4) -> dict[str, Any]:
    """As Claude Code sends it. A round is two messages, of a call and its result."""
    cached = {"cache_control": {"type": "ephemeral"}}
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": _PIXEL}}
    messages: list[dict[str, Any]] = [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "<system-reminder>\n</system-reminder>"},
                image,
                {"type": "text", "text": "What is wrong with this?"},
            ],
        }
    ]
    for number in range(rounds):
        is_last = number == rounds - 1
        given = {f"argument_{number % tools}": "/src/é.py", "all": [1, 2]}
        shown = [{"type": "text", "text": "seen"}, image] if is_last else _LINES
        result = {"type": "tool_result", "tool_use_id": f"toolu_{number}", "content": shown, "is_error": False}
        messages += [
            {
                "role": "assistant",
                "content": [
                    {"type": "thinking", "thinking": "hm", "signature": "c2ln"},
                    {"type": "text", "text": "I will look at it."},
                    {"type": "tool_use", "id": f"toolu_{number}", "name": f"tool_{number % tools}", "input": given},
                ],
            },
            {"role": "user", "content": [result | cached if is_last else result]},
        ]
    return {
        "model": "aion-auto",
        "max_tokens": 32000,
        "stream": True,
        "system": [{"type": "text", "text": "You are an agent."}, {"type": "text", "text": _RULE * 10, **cached}],
        "messages": [*messages, {"role": "system", "content": "The date is later now."}],
        "tools": [
            {"name": f"tool_{number}", "description": f"Tool {number}. {_RULE * 3}", "input_schema": _schema(number)}
            for number in range(tools)
        ]
        + [{"type": "web_search_20250305", "name": "web_search", "max_uses": 5}],
        "tool_choice": {"type": "auto"},
        "metadata": {"user_id": "user_0123456789abcdef_account__session_0123"},
        "thinking": {"type": "adaptive"},
        "output_config": {"effort": "medium", "format": {"type": "json_schema", "schema": _schema(0)}},
        "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
    }
