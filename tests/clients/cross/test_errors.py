"""What goes wrong at a provider of the other format, as the official SDKs see it."""

from __future__ import annotations

import json
import threading
from typing import Any

import anthropic
import openai
import pytest

from tests.clients.cross.cases import HELLO
from tests.support.gateway import Gateway
from tests.support.says import Says
from tests.support.scripted import Scripted
from tests.support.upstream import Answer

ASK: Any = {"model": "aion-auto", "messages": HELLO}
# What goes wrong at these makes no other model look ill.
ASK_CLAUDE: Any = {"model": "claude-fails-503", "messages": HELLO}
ASK_GPT: Any = {"model": "gpt-4.1-fails-503", "messages": HELLO}
LIMIT: Any = {"max_tokens": 64}
RESET = "2026-11-21T15:00:00Z"


def chats(gateway: Gateway) -> Any:
    return openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="x", max_retries=0).chat.completions


def messages(gateway: Gateway) -> Any:
    return anthropic.Anthropic(base_url=gateway.url, api_key="x", max_retries=0).messages


def of_anthropic(status: int, kind: str, message: str, *headers: tuple[str, str]) -> Answer:
    body = {"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_theirs"}
    return Answer(status=status, chunks=[json.dumps(body).encode()], headers=headers)


def of_openai(status: int, kind: str, code: str | None, message: str, *headers: tuple[str, str]) -> Answer:
    body = {"error": {"message": message, "type": kind, "param": None, "code": code}}
    return Answer(status=status, chunks=[json.dumps(body, indent=2).encode()], headers=headers)


@pytest.mark.parametrize("stream", [False, True])
def test_too_many_requests_to_anthropic(claude_gateway: Gateway, claude: Scripted, stream: bool) -> None:
    limits = [("retry-after", "7"), ("anthropic-ratelimit-requests-remaining", "0")]
    limits.append(("anthropic-ratelimit-requests-reset", RESET))
    claude.says(of_anthropic(429, "rate_limit_error", "Slow down, Zoë.", *limits))
    with pytest.raises(openai.RateLimitError, match="Slow down, Zoë") as raised:
        chats(claude_gateway).create(**{**ASK, "model": "claude-fails-429"}, stream=stream)
    error = raised.value
    assert (error.status_code, error.type, error.code) == (429, "rate_limit_error", "rate_limit_exceeded")
    assert error.response.headers["retry-after"] == "7"
    assert error.response.headers["anthropic-ratelimit-requests-reset"] == RESET
    assert error.response.headers["content-type"] == "application/json"
    row = claude_gateway.row(error.response.headers["x-request-id"])
    assert (row.outcome, row.status, row.provider, row.cost_nano) == ("failed", 429, "anthropic", 0)


@pytest.mark.parametrize("stream", [False, True])
def test_too_many_requests_to_openai(gpt_gateway: Gateway, gpt: Scripted, stream: bool) -> None:
    limits = (("retry-after", "7"), ("x-ratelimit-remaining-requests", "0"), ("x-ratelimit-reset-requests", "7s"))
    gpt.says(of_openai(429, "requests", "rate_limit_exceeded", "Slow down, Zoë.", *limits))
    with pytest.raises(anthropic.RateLimitError, match="Slow down, Zoë") as raised:
        messages(gpt_gateway).create(**{**ASK, "model": "gpt-4.1-fails-429"}, **LIMIT, stream=stream)
    error = raised.value
    assert (error.status_code, error.type) == (429, "rate_limit_error")
    assert error.response.headers["retry-after"] == "7"
    assert error.response.headers["x-ratelimit-reset-requests"] == "7s"
    assert error.request_id == error.response.headers["x-request-id"]
    assert isinstance(error.body, dict)
    assert error.body["request_id"] == error.request_id
    row = gpt_gateway.row(error.request_id)
    assert (row.outcome, row.status, row.provider, row.cost_nano) == ("failed", 429, "openai", 0)


def test_overloaded(claude_gateway: Gateway, claude: Scripted, gpt_gateway: Gateway, gpt: Scripted) -> None:
    claude.says(of_anthropic(529, "overloaded_error", "Overloaded"))
    with pytest.raises(openai.InternalServerError, match="Overloaded") as raised:
        chats(claude_gateway).create(**ASK_CLAUDE)
    assert raised.value.status_code == 529
    gpt.says(of_openai(503, "server_error", None, "The engine is overloaded."))
    with pytest.raises(anthropic.APIStatusError, match="engine is overloaded") as told:
        messages(gpt_gateway).create(**ASK_GPT, **LIMIT)
    assert (told.value.status_code, told.value.type) == (503, "overloaded_error")


@pytest.mark.parametrize("stream", [False, True])
def test_a_bad_request(
    claude_gateway: Gateway, claude: Scripted, gpt_gateway: Gateway, gpt: Scripted, stream: bool
) -> None:
    claude.says(of_anthropic(400, "invalid_request_error", "messages.0: Input too strange"))
    with pytest.raises(openai.BadRequestError, match="too strange") as raised:
        chats(claude_gateway).create(**ASK, stream=stream)
    assert raised.value.type == "invalid_request_error"
    assert len(claude.bodies) == 1
    gpt.says(of_openai(400, "invalid_request_error", "unsupported_value", "Input too strange"))
    with pytest.raises(anthropic.BadRequestError, match="too strange") as told:
        messages(gpt_gateway).create(**ASK, **LIMIT, stream=stream)
    assert told.value.type == "invalid_request_error"
    assert len(gpt.bodies) == 1


def test_a_conversation_that_is_too_long(
    claude_gateway: Gateway, claude: Scripted, gpt_gateway: Gateway, gpt: Scripted
) -> None:
    """Agents compact theirs when they find the words of their own API."""
    claude.says(of_anthropic(400, "invalid_request_error", "prompt is too long: 210000 tokens > 200000 maximum"))
    with pytest.raises(openai.BadRequestError) as raised:
        chats(claude_gateway).create(**ASK)
    assert raised.value.code == "context_length_exceeded"
    gpt.says(of_openai(400, "invalid_request_error", "context_length_exceeded", "Your input is over the limit."))
    with pytest.raises(anthropic.BadRequestError, match="prompt is too long"):
        messages(gpt_gateway).create(**ASK, **LIMIT)


def test_an_error_in_a_stream_of_anthropics(claude_gateway: Gateway, claude: Scripted) -> None:
    claude.says(Says("So far", error=("overloaded_error", "Overloaded, Zoë"), cut=11))
    chunks = chats(claude_gateway).create(**ASK_CLAUDE, stream=True)
    texts = [next(chunks).choices[0].delta.content or "" for _ in range(3)]
    assert "".join(texts) == "So far"
    with pytest.raises(openai.APIError, match="Overloaded, Zoë"):
        next(chunks)
    row = claude_gateway.row(chunks.response.headers["x-request-id"])
    assert (row.outcome, row.error, row.usage.input_tokens) == ("cut", "error_event", 900)


def test_an_error_in_a_stream_of_openais(gpt_gateway: Gateway, gpt: Scripted) -> None:
    gpt.says(Says("So far", error=("server_error", "Went wrong, Zoë"), cut=11))
    with messages(gpt_gateway).stream(**ASK_GPT, **LIMIT) as stream:
        texts = [next(stream.text_stream) for _ in range(2)]
        assert "".join(texts) == "So far"
        with pytest.raises(anthropic.APIStatusError, match="Went wrong, Zoë") as raised:
            next(stream.text_stream)
    assert raised.value.type == "api_error"
    row = gpt_gateway.row(raised.value.response.headers["x-request-id"])
    assert (row.outcome, row.error, row.usage.input_tokens > 0) == ("cut", "error_event", True)


def test_a_stream_that_breaks_off_does_not_look_whole(
    claude_gateway: Gateway, claude: Scripted, gpt_gateway: Gateway, gpt: Scripted
) -> None:
    head = (
        b'event: message_start\ndata: {"type":"message_start","message":{"id":"m","type":"message","role":"assistant",'
    )
    head += b'"model":"m","content":[],"usage":{"input_tokens":5,"output_tokens":1}}}\n\n'
    block = b'event: content_block_start\ndata: {"type":"content_block_start","index":0,"content_block":'
    block += b'{"type":"text","text":"So far"}}\n\n'
    claude.says(Answer(content_type="text/event-stream", chunks=[head, block]))
    with pytest.raises(openai.APIError):
        list(chats(claude_gateway).create(**ASK_CLAUDE, stream=True))
    chunk = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    chunk["choices"] = [{"index": 0, "delta": {"role": "assistant", "content": "So far"}, "finish_reason": None}]
    gpt.says(Answer(content_type="text/event-stream", chunks=[f"data: {json.dumps(chunk)}\n\n".encode()]))
    with pytest.raises(anthropic.APIError), messages(gpt_gateway).stream(**ASK_GPT, **LIMIT) as stream:
        list(stream)


@pytest.mark.parametrize("body", [b"", b"{", b'"text"', b"{}", b'{"error": {"message": "No, Zoe"}}', b"[]"])
def test_an_answer_that_is_none(
    claude_gateway: Gateway, claude: Scripted, gpt_gateway: Gateway, gpt: Scripted, body: bytes
) -> None:
    claude.says(Answer(chunks=[body]))
    with pytest.raises(openai.APIStatusError) as raised:
        chats(claude_gateway).create(**ASK_CLAUDE)
    assert raised.value.status_code >= 500
    assert isinstance(raised.value.body, dict)
    assert "provider" in raised.value.body["message"].lower() or "Zoe" in raised.value.body["message"]
    gpt.says(Answer(chunks=[body]))
    with pytest.raises(anthropic.APIStatusError) as told:
        messages(gpt_gateway).create(**ASK_GPT, **LIMIT)
    assert told.value.status_code >= 500
    assert told.value.type == "api_error"


def test_a_client_that_hangs_up_on_anthropic(claude_gateway: Gateway, claude: Scripted) -> None:
    claude.says(Says(hold=threading.Event()))
    stream = chats(claude_gateway).create(**ASK_CLAUDE, stream=True)
    assert next(chunk for chunk in stream if chunk.choices[0].delta.content).choices[0].delta.content == "fou"
    stream.close()
    check_cut(claude_gateway, claude, stream.response.headers["x-request-id"])


def test_a_client_that_hangs_up_on_openai(gpt_gateway: Gateway, gpt: Scripted) -> None:
    gpt.says(Says(hold=threading.Event()))
    with messages(gpt_gateway).stream(**ASK_GPT, **LIMIT) as stream:
        assert next(iter(stream.text_stream)) == "fou"
    check_cut(gpt_gateway, gpt, stream.response.headers["x-request-id"])


def check_cut(gateway: Gateway, provider: Scripted, request_id: str) -> None:
    assert provider.disconnected.wait(20)
    row = gateway.row(request_id)
    assert (row.outcome, row.status, row.error, row.estimated) == ("cut", 200, "client_gone", True)
    assert row.usage.input_tokens > 0
    assert row.usage.output_tokens > 0
    assert row.cost_nano


def test_tokens_are_estimated_where_nobody_counts_them(gpt_gateway: Gateway, gpt: Scripted) -> None:
    """Claude Code asks for it to see how full its context is."""
    count = messages(gpt_gateway).count_tokens
    short = count(model="gpt-5.4", messages=HELLO).input_tokens
    long = count(model="gpt-5.4", messages=[{"role": "user", "content": "hello " * 1000}]).input_tokens
    assert 0 < short < 20
    assert 500 < long < 4000
    assert gpt.upstream.received == []
