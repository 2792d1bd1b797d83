"""Messages requests and what comes of them as chat completions, for the tests of this folder."""

from __future__ import annotations

import json
from typing import Any

import pytest

from aion_extproc.wire.errors import RequestError
from aion_extproc.wire.format import Format
from aion_extproc.wire.request import parse
from aion_extproc.wire.translate.request_to_chat import to_chat
from aion_extproc.wire.translate.target import ChatTarget, Translated

PLAIN = ChatTarget()
OPENROUTER = ChatTarget(reasoning_effort=True, reasoning="reasoning_details", cache_control=True, files=True)
CACHED = {"cache_control": {"type": "ephemeral"}}
HI = [{"role": "user", "content": "hi"}]
PNG = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBO"}}
LINK = {"type": "image", "source": {"type": "url", "url": "https://x.test/a.png"}}
PDF = {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBE"}}
CLOSED: dict[str, Any] = {
    "type": "object",
    "properties": {"a": {"type": "string"}},
    "required": ["a"],
    "additionalProperties": False,
}
READ = {"name": "Read", "description": "d", "input_schema": {"type": "object", "properties": {}}}


def translated(target: ChatTarget = PLAIN, **members: Any) -> Translated:
    body = {"model": "aion-auto", "max_tokens": 10, "messages": HI, **members}
    return to_chat(parse(json.dumps(body).encode(), Format.ANTHROPIC), "small", target)


def chat(target: ChatTarget = PLAIN, **members: Any) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(translated(target, **members).body)
    return body


def messages(*turns: dict[str, Any], target: ChatTarget = PLAIN, **members: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = chat(target, messages=list(turns), **members)["messages"]
    return found


def dropped(target: ChatTarget = PLAIN, **members: Any) -> tuple[str, ...]:
    return translated(target, **members).dropped


def refused(target: ChatTarget = PLAIN, **members: Any) -> tuple[str, str | None]:
    with pytest.raises(RequestError) as raised:
        translated(target, **members)
    assert raised.value.status == 400
    return raised.value.code, raised.value.param


def user(*content: Any) -> dict[str, Any]:
    return {"role": "user", "content": list(content)}


def assistant(*content: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": list(content)}


def text(text: str, **members: Any) -> dict[str, Any]:
    return {"type": "text", "text": text, **members}


def use(id: str, name: str = "Read", input: Any = None) -> dict[str, Any]:
    return {"type": "tool_use", "id": id, "name": name, "input": {"a": 1} if input is None else input}


def result(id: str, content: Any = "done", **members: Any) -> dict[str, Any]:
    return {"type": "tool_result", "tool_use_id": id, "content": content, **members}


def call(id: str, name: str = "Read", arguments: str = '{"a":1}') -> dict[str, Any]:
    return {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}


def tool(id: str, content: Any = "done") -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": id, "content": content}


NOTE = [{"role": "system", "content": "note"}]
THOUGHTS = [
    {"type": "thinking", "thinking": "first", "signature": "sig"},
    {"type": "redacted_thinking", "data": "xyz"},
    {"type": "thinking", "thinking": "then", "signature": ""},
]
