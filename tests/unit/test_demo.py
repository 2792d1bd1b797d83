"""The demo upstream as a real process, with the official SDKs and by its bytes."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anthropic
import httpx
import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aion_extproc.demo.answer import _PIECE, count

MODULE = [sys.executable, "-m", "aion_extproc.demo.upstream"]
TOOL = {"name": "look", "description": "", "input_schema": {"type": "object", "properties": {}}}
FUNCTION = {"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}
HELLO: Any = [{"role": "user", "content": "hello there, demo!"}]


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen([*MODULE, "--port", str(port)])
    try:
        address = f"http://127.0.0.1:{port}"
        wait_until_up(httpx.HTTPTransport(), address, process)
        yield address
    finally:
        process.terminate()
        assert process.wait(5) == 0


def wait_until_up(transport: httpx.HTTPTransport, address: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 30
    with httpx.Client(transport=transport, base_url=address) as client:
        while True:
            try:
                assert client.get("/health").status_code == 200
            except httpx.TransportError:
                assert process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.02)  # asked again, not relied upon
            else:
                return


@pytest.fixture(scope="module")
def http(url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=url) as client:
        yield client


@pytest.fixture(scope="module")
def chat(url: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{url}/v1", api_key="any", max_retries=0)


@pytest.fixture(scope="module")
def messages(url: str) -> anthropic.Anthropic:
    return anthropic.Anthropic(base_url=url, api_key="any", max_retries=0)


def test_chat_says_it_is_the_demo_and_echoes(chat: openai.OpenAI) -> None:
    reply = chat.chat.completions.create(model="demo-small", messages=HELLO)
    text = reply.choices[0].message.content or ""
    assert "demo" in text
    assert "demo-small" in text
    assert "hello there, demo!" in text
    assert reply.choices[0].finish_reason == "stop"
    assert reply.model == "demo-small"
    assert reply.usage is not None
    assert reply.usage.prompt_tokens == 5
    assert reply.usage.total_tokens == reply.usage.prompt_tokens + reply.usage.completion_tokens


def test_a_chat_stream_is_the_same_text_and_usage(chat: openai.OpenAI) -> None:
    whole = chat.chat.completions.create(model="any-name", messages=HELLO)
    chunks = list(
        chat.chat.completions.create(
            model="any-name", messages=HELLO, stream=True, stream_options={"include_usage": True}
        )
    )
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == whole.choices[0].message.content
    assert chunks[-1].choices == []
    assert chunks[-1].usage == whole.usage
    assert [chunk.usage for chunk in chunks[:-1]] == [None] * (len(chunks) - 1)
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert len({chunk.id for chunk in chunks}) == 1


def test_a_chat_stream_has_no_usage_unless_asked(http: httpx.Client) -> None:
    body = {"model": "m", "messages": HELLO, "stream": True}
    answer = http.post("/v1/chat/completions", json=body)
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.text.endswith("data: [DONE]\n\n")
    assert '"usage"' not in answer.text


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("limit", ["max_tokens", "max_completion_tokens"])
def test_chat_honours_the_token_limit(chat: openai.OpenAI, limit: str, stream: bool) -> None:
    options: Any = {limit: 7, "stream": stream}
    if stream:
        options["stream_options"] = {"include_usage": True}
    reply: Any = chat.chat.completions.create(model="m", messages=HELLO, **options)
    if stream:
        *_, last, usage = list(reply)
        assert last.choices[0].finish_reason == "length"
        assert usage.usage.completion_tokens == 7
    else:
        assert reply.choices[0].finish_reason == "length"
        assert reply.usage.completion_tokens == 7
        assert count(reply.choices[0].message.content) == 7


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "look"}}])
def test_chat_calls_the_tool_it_must_call(chat: openai.OpenAI, choice: Any) -> None:
    options: Any = {"model": "m", "messages": HELLO, "tools": [FUNCTION], "tool_choice": choice}
    reply = chat.chat.completions.create(**options)
    assert reply.choices[0].finish_reason == "tool_calls"
    (call,) = reply.choices[0].message.tool_calls or []
    assert call.type == "function"
    assert (call.function.name, call.function.arguments) == ("look", "{}")
    with chat.chat.completions.stream(**options) as stream:
        final = stream.get_final_completion()
    (streamed,) = final.choices[0].message.tool_calls or []
    assert (streamed.function.name, streamed.function.arguments) == ("look", "{}")


def test_tools_that_may_be_called_are_not(chat: openai.OpenAI) -> None:
    options: Any = {"tools": [FUNCTION], "tool_choice": "auto"}
    assert chat.chat.completions.create(model="m", messages=HELLO, **options).choices[0].message.content


def test_messages_answer_and_stream_agree(messages: anthropic.Anthropic) -> None:
    whole = messages.messages.create(model="demo-large", max_tokens=500, messages=HELLO, system="Be kind.")
    (block,) = whole.content
    assert block.type == "text"
    assert "demo-large" in block.text
    assert "hello there, demo!" in block.text
    assert (whole.stop_reason, whole.usage.input_tokens) == ("end_turn", 8)
    with messages.messages.stream(model="demo-large", max_tokens=500, messages=HELLO, system="Be kind.") as stream:
        final = stream.get_final_message()
    assert final.content[0].model_dump(include={"text"}) == {"text": block.text}
    assert (final.stop_reason, final.usage.output_tokens) == ("end_turn", whole.usage.output_tokens)
    assert final.usage.input_tokens == whole.usage.input_tokens


def test_messages_stream_in_the_order_of_the_provider(http: httpx.Client) -> None:
    body = {"model": "m", "max_tokens": 3, "messages": HELLO, "stream": True}
    answer = http.post("/v1/messages?beta=true", json=body)
    events = [line.removeprefix("event: ") for line in answer.text.splitlines() if line.startswith("event: ")]
    assert events == [
        "message_start",
        "content_block_start",
        "ping",
        *["content_block_delta"] * 3,
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    data = [json.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: ")]
    assert [each["type"] for each in data] == events
    assert data[-2]["delta"]["stop_reason"] == "max_tokens"
    assert data[-2]["usage"]["output_tokens"] == 3


@pytest.mark.parametrize("choice", [{"type": "any"}, {"type": "tool", "name": "look"}])
def test_messages_call_the_tool_they_must_call(messages: anthropic.Anthropic, choice: Any) -> None:
    options: Any = {
        "model": "m",
        "max_tokens": 9,
        "messages": HELLO,
        "tools": [TOOL],
        "tool_choice": choice,
    }
    reply = messages.messages.create(**options)
    with messages.messages.stream(**options) as stream:
        streamed = stream.get_final_message()
    for message in (reply, streamed):
        (block,) = message.content
        called: Any = block
        assert (called.name, called.input, message.stop_reason) == ("look", {}, "tool_use")


def test_tokens_are_counted_without_an_answer(messages: anthropic.Anthropic) -> None:
    assert messages.messages.count_tokens(model="m", messages=HELLO).input_tokens == 5


def test_content_in_parts_is_read(messages: anthropic.Anthropic) -> None:
    parts: Any = [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]
    reply = messages.messages.create(model="m", max_tokens=99, messages=[{"role": "user", "content": parts}])
    assert "one two" in reply.content[0].model_dump()["text"]


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"{", "not valid JSON"),
        (b"[1]", "JSON object"),
        (b"{}", "model"),
        (b'{"model":"m"}', "messages"),
        (b'{"model":"m","messages":[]}', "messages"),
        (b'{"model":"m","messages":[1]}', "messages"),
        (b'{"model":"m","messages":[{"role":"user"}],"max_tokens":0}', "max_tokens"),
    ],
)
def test_bad_requests_are_refused_in_the_shape_of_the_api(http: httpx.Client, body: bytes, says: str) -> None:
    answer = http.post("/v1/chat/completions", content=body)
    assert answer.status_code == 400
    assert says in answer.json()["error"]["message"]
    assert answer.json()["error"]["type"] == "invalid_request_error"
    body = body.replace(b'"model":"m"', b'"model":"m","max_tokens":1', 1) if b"max_tokens" not in body else body
    answer = http.post("/v1/messages", content=body)
    assert answer.status_code == 400
    assert answer.json()["type"] == "error"
    assert answer.json()["error"]["type"] == "invalid_request_error"


anything = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 9) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["role", "content", "text", "name", "function", "type"]), inner)
    ),
    max_leaves=6,
)
KEYS = ["model", "messages", "max_tokens", "stream", "stream_options", "tools", "tool_choice", "system"]


@given(st.dictionaries(st.sampled_from(KEYS), anything), st.booleans())
def test_no_body_breaks_it(http: httpx.Client, body: dict[str, Any], valid: bool) -> None:
    if valid:
        body = {**body, "model": "m", "messages": HELLO, "max_tokens": 4}
    for path in ("/v1/chat/completions", "/v1/messages", "/v1/messages/count_tokens"):
        answer = http.post(path, json=body)
        assert answer.status_code in (200, 400)


def test_the_models_are_marked_as_demo(chat: openai.OpenAI) -> None:
    assert {model.owned_by for model in chat.models.list()} == {"demo"}


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/v1/messages", 405), ("GET", "/v1/nothing", 404)])
def test_other_paths_and_methods_are_refused(http: httpx.Client, method: str, path: str, status: int) -> None:
    assert http.request(method, path).status_code == status


def test_it_serves_a_unix_socket_and_ends_at_once_on_sigterm(tmp_path: Path) -> None:
    path = tmp_path / "demo.sock"
    process = subprocess.Popen([*MODULE, "--socket", str(path)])
    wait_until_up(httpx.HTTPTransport(uds=str(path)), "http://demo", process)
    process.send_signal(signal.SIGTERM)
    assert process.wait(2) == 0


@given(st.text())
def test_pieces_are_the_text(text: str) -> None:
    assert "".join(_PIECE.findall(text)) == text
