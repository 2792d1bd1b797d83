"""Translated chat streams as OpenAI's own client reads them, and gives back what it gathered."""

from __future__ import annotations

from typing import Any

import httpx2
import openai
import orjson
import pytest

from aion_extproc.wire.format import Format
from aion_extproc.wire.request import parse
from aion_extproc.wire.translate.request_to_messages import to_messages
from aion_extproc.wire.translate.target import MessagesTarget
from tests.wire.test_stream_to_chat import ERROR, FULL, START, run


class _Recorded(httpx2.BaseTransport):
    def __init__(self, body: bytes) -> None:
        self._body = body

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, headers={"content-type": "text/event-stream"}, content=self._body)


def client(body: bytes) -> openai.OpenAI:
    transport = httpx2.Client(transport=_Recorded(body))
    return openai.OpenAI(api_key="k", base_url="http://test/v1", http_client=transport, max_retries=0)


def test_the_openai_client_reads_it() -> None:
    messages: Any = [{"role": "user", "content": "x"}]
    got = list(client(run(*FULL)[0]).chat.completions.create(model="m", messages=messages, stream=True))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in got if chunk.choices) == "Grüße 🎉\n  two\n😀 é"
    assert got[-1].usage is not None
    assert got[-1].usage.total_tokens == 45


def test_what_the_openai_client_gathers_can_be_given_back() -> None:
    messages: list[Any] = [{"role": "user", "content": "x"}]
    with client(run(*FULL)[0]).chat.completions.stream(model="m", messages=messages) as stream:
        message = stream.get_final_completion().choices[0].message
    calls = message.tool_calls or []
    assert [(call.id, call.function.name, call.function.arguments) for call in calls] == [
        ("toolu_1", "get_weather", '{"city": "München"}'),
        ("toolu_2", "mcp.x", "{}"),
    ]
    results = [{"role": "tool", "tool_call_id": call.id, "content": "ok"} for call in calls]
    body = {"model": "m", "messages": [*messages, message.model_dump(exclude_none=True), *results]}
    translated = to_messages(parse(orjson.dumps(body), Format.OPENAI), "claude", MessagesTarget())
    turn = orjson.loads(translated.body)["messages"][1]["content"]
    assert turn == [
        {"type": "thinking", "thinking": "Let me think 日本", "signature": "sig"},
        {"type": "redacted_thinking", "data": "secret"},
        {"type": "thinking", "thinking": "again", "signature": "sig2"},
        {"type": "text", "text": "Grüße 🎉\n  two\n😀 é"},
        {"type": "tool_use", "id": "toolu_1", "name": "get_weather", "input": {"city": "München"}},
        {"type": "tool_use", "id": "toolu_2", "name": turn[5]["name"], "input": {}},
    ]


def test_the_openai_client_raises_what_broke_the_stream() -> None:
    messages: Any = [{"role": "user", "content": "x"}]
    stream = client(run(START, ERROR)[0]).chat.completions.create(model="m", messages=messages, stream=True)
    with pytest.raises(openai.APIError, match="Overloaded"):
        list(stream)
