"""The official OpenAI SDK against a running gateway."""

from __future__ import annotations

import asyncio
import json
import threading
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from openai.types.chat import ChatCompletionChunk
from pydantic import BaseModel

from tests.clients import streams
from tests.clients.conftest import CLIENT_KEY
from tests.support.answers import CHAT, CHAT_EVENTS, as_asked
from tests.support.configs import OPENAI_KEY
from tests.support.gateway import Gateway, wait_for
from tests.support.upstream import Answer, Received, Upstream

HELLO: Any = [{"role": "user", "content": "hello"}]
TOOLS: Any = [
    {"type": "function", "function": {"name": name, "parameters": {"type": "object", "properties": {}}}}
    for name in ("weather", "now")
]
TEXT = "four é😀"
STREAMED_TEXT = "four é"


def client(gateway: Gateway, key: str = "whatever", **more: Any) -> OpenAI:
    return OpenAI(base_url=f"{gateway.url}/v1", api_key=key, **more)


def async_client(gateway: Gateway, key: str = "whatever", **more: Any) -> AsyncOpenAI:
    return AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key=key, **more)


def text_of(chunks: list[ChatCompletionChunk]) -> str:
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


def test_an_answer_and_what_the_headers_say_of_it(gateway: Gateway, provider: Upstream) -> None:
    raw = client(gateway).chat.completions.with_raw_response.create(model="aion-auto", messages=HELLO)
    answer = raw.parse()
    assert answer.choices[0].message.content == TEXT
    assert answer.usage is not None
    assert answer.usage.prompt_tokens_details is not None
    assert answer.usage.prompt_tokens_details.cached_tokens == 400
    headers = raw.headers
    assert (headers["x-aion-model"], headers["x-aion-provider"], headers["x-aion-tier"]) == ("gpt-small", "openai", "1")
    assert 0 <= float(headers["x-aion-score"]) < 0.35
    assert headers["x-aion-task"]
    assert headers["x-aion-reason"]
    assert headers["x-aion-attempts"] == "1"
    assert headers["x-aion-cost-usd"] == "0.000720"
    assert float(headers["x-aion-savings-usd"]) > 0
    assert answer._request_id == raw.request_id == headers["x-request-id"]
    assert gateway.row(headers["x-request-id"]).outcome == "served"
    assert provider.last.header("authorization") == f"Bearer {OPENAI_KEY}"


def test_the_whole_text_of_a_stream(gateway: Gateway, provider: Upstream) -> None:
    with client(gateway).chat.completions.create(model="aion-auto", messages=HELLO, stream=True) as stream:
        assert stream.response.headers["x-aion-model"] == "gpt-small"
        chunks = list(stream)
    assert text_of(chunks) == STREAMED_TEXT
    assert len(chunks) == len(CHAT_EVENTS)  # none with the usage, which this client did not ask for
    assert json.loads(provider.last.body)["stream_options"] == {"include_usage": True}


@pytest.mark.parametrize("asked", [True, False, None])
def test_usage_in_a_stream_comes_when_asked_for(gateway: Gateway, provider: Upstream, asked: bool | None) -> None:
    options: Any = {} if asked is None else {"stream_options": {"include_usage": asked}}
    stream = client(gateway).chat.completions.create(model="aion-auto", messages=HELLO, stream=True, **options)
    chunks = list(stream)
    usage = [chunk.usage for chunk in chunks if chunk.usage]
    if asked:
        assert [(u.prompt_tokens, u.completion_tokens) for u in usage] == [(1000, 200)]
        assert chunks[-1].choices == []
    else:
        assert usage == []
        assert all(chunk.choices for chunk in chunks)
    row = gateway.row(stream.response.headers["x-request-id"])
    assert (row.usage.input_tokens, row.usage.output_tokens, row.estimated) == (1000, 200, False)


def test_the_sdks_own_stream_helper(gateway: Gateway) -> None:
    with client(gateway).chat.completions.stream(model="aion-auto", messages=HELLO) as stream:
        deltas = [event.delta for event in stream if event.type == "content.delta"]
        final = stream.get_final_completion()
    assert "".join(deltas) == STREAMED_TEXT == final.choices[0].message.content


async def _async_texts(gateway: Gateway) -> tuple[str | None, str]:
    async with async_client(gateway) as sdk:
        answer = await sdk.chat.completions.create(model="aion-auto", messages=HELLO)
        stream = await sdk.chat.completions.create(model="aion-auto", messages=HELLO, stream=True)
        chunks = [chunk async for chunk in stream]
    return answer.choices[0].message.content, text_of(chunks)


def test_async(gateway: Gateway) -> None:
    assert asyncio.run(_async_texts(gateway)) == (TEXT, STREAMED_TEXT)


def test_tool_calls_in_an_answer(gateway: Gateway, provider: Upstream) -> None:
    provider.answer = lambda _: Answer(chunks=[streams.chat_tool_answer()])
    sdk = client(gateway)
    answer = sdk.chat.completions.create(model="aion-auto", messages=HELLO, tools=TOOLS, parallel_tool_calls=True)
    calls = answer.choices[0].message.tool_calls
    assert answer.choices[0].finish_reason == "tool_calls"
    assert calls is not None
    _check_calls([(c.id, c.function.name, c.function.arguments) for c in calls if c.type == "function"])
    assert json.loads(provider.last.body)["tools"] == TOOLS
    # The next turn: the calls and their results, as the SDK writes them.
    results: Any = [{"role": "tool", "tool_call_id": call.id, "content": "21 °C"} for call in calls]
    turn: Any = [*HELLO, answer.choices[0].message, *results]
    sdk.chat.completions.create(model="aion-auto", messages=turn, tools=TOOLS)
    sent = json.loads(provider.last.body)["messages"]
    assert [message["role"] for message in sent] == ["user", "assistant", "tool", "tool"]
    assert sent[1]["tool_calls"][0]["function"]["arguments"] == "".join(streams.FRAGMENTS)


@pytest.mark.parametrize("cut", [False, True], ids=["events", "cut anywhere"])
def test_tool_calls_in_a_stream(gateway: Gateway, provider: Upstream, cut: bool) -> None:
    chunks = streams.chat_tool_stream()
    provider.answer = streams.streamed(streams.in_small_pieces(chunks) if cut else chunks)
    sdk = client(gateway)
    fragments: dict[int, list[str]] = {}
    heads: dict[int, tuple[str, str]] = {}
    for chunk in sdk.chat.completions.create(model="aion-auto", messages=HELLO, tools=TOOLS, stream=True):
        assert chunk.choices, "the usage chunk was not asked for"
        for call in chunk.choices[0].delta.tool_calls or []:
            assert call.function is not None
            if call.id is not None:
                heads[call.index] = (call.id, call.function.name or "")
            fragments.setdefault(call.index, []).append(call.function.arguments or "")
    assert [part for part in fragments[0] if part] == streams.FRAGMENTS  # not joined, not cut
    _check_calls([(*heads[index], "".join(parts)) for index, parts in fragments.items()])
    with sdk.chat.completions.stream(model="aion-auto", messages=HELLO, tools=TOOLS) as stream:
        calls = stream.get_final_completion().choices[0].message.tool_calls
    assert calls is not None
    _check_calls([(c.id, c.function.name, c.function.arguments) for c in calls])


def _check_calls(calls: list[tuple[str, str, str]]) -> None:
    assert [(id_, name) for id_, name, _ in calls] == [("call_w", "weather"), ("call_n", "now")]
    assert json.loads(calls[0][2]) == streams.ARGUMENTS
    assert calls[1][2] == "{}"


class City(BaseModel):
    name: str
    people: int


def test_a_response_format_reaches_the_provider(gateway: Gateway, provider: Upstream) -> None:
    content = json.dumps({"name": "Zürich", "people": 450_000})
    answered = CHAT.replace(b'"four \\u00e9\\ud83d\\ude00"', json.dumps(content).encode())
    provider.answer = lambda _: Answer(chunks=[answered])
    sdk = client(gateway)
    answer = sdk.chat.completions.parse(model="aion-auto", messages=HELLO, response_format=City)
    assert answer.choices[0].message.parsed == City(name="Zürich", people=450_000)
    assert json.loads(provider.last.body)["response_format"]["json_schema"]["name"] == "City"


def test_preferences_in_the_extra_body(gateway: Gateway, provider: Upstream) -> None:
    extra = {"aion_preferences": {"tier": 3}}
    create = client(gateway).chat.completions.with_raw_response.create
    plain = create(model="aion-auto", messages=HELLO)
    hinted = create(model="aion-auto", messages=HELLO, extra_body=extra)
    assert float(hinted.headers["x-aion-score"]) > float(plain.headers["x-aion-score"])
    assert "aion_preferences" not in json.loads(provider.last.body)


def test_fifty_at_once_each_get_their_own_answer(gateway: Gateway, provider: Upstream) -> None:
    provider.answer = streams.echo

    async def one(sdk: AsyncOpenAI, number: int) -> tuple[str | None, str]:
        said: Any = [{"role": "user", "content": f"number {number} ñ" * (1 + number % 7)}]
        if number % 2:
            stream = await sdk.chat.completions.create(model="aion-auto", messages=said, stream=True)
            return text_of([chunk async for chunk in stream]), stream.response.headers["x-request-id"]
        answer = await sdk.chat.completions.create(model="aion-auto", messages=said)
        return answer.choices[0].message.content, answer._request_id or ""

    async def all_of_them() -> list[tuple[str | None, str]]:
        async with async_client(gateway, max_retries=0) as sdk:
            return await asyncio.gather(*(one(sdk, number) for number in range(50)))

    answers = asyncio.run(all_of_them())
    assert [text for text, _ in answers] == [f"number {number} ñ" * (1 + number % 7) for number in range(50)]
    assert len(provider.received) == 50
    ids = {request_id for _, request_id in answers}
    assert len(ids) == 50
    rows = wait_for(lambda: found if len(found := [r for r in gateway.rows() if r.request_id in ids]) == 50 else None)
    assert {(row.outcome, row.usage.input_tokens, row.usage.output_tokens) for row in rows} == {("served", 5, 7)}


def test_an_unknown_model(gateway: Gateway, provider: Upstream) -> None:
    with pytest.raises(openai.NotFoundError) as raised:
        client(gateway).chat.completions.create(model="gpt-smal", messages=HELLO)
    error = raised.value
    assert (error.code, error.param, error.type) == ("model_not_found", "model", "invalid_request_error")
    assert "gpt-small" in error.message
    _refused_once(gateway, provider, error, "model_not_found")


def test_a_bad_body(gateway: Gateway, provider: Upstream) -> None:
    nonsense: Any = "hello"
    with pytest.raises(openai.BadRequestError) as raised:
        client(gateway).chat.completions.create(model="aion-auto", messages=nonsense)
    error = raised.value
    assert (error.code, error.param, error.type) == ("invalid_type", "messages", "invalid_request_error")
    assert "messages" in error.message
    _refused_once(gateway, provider, error, "invalid_type")


@pytest.mark.parametrize("key", ["wrong", f"{CLIENT_KEY}x", OPENAI_KEY])
def test_a_wrong_key_never_reaches_a_provider(guarded: Gateway, provider: Upstream, key: str) -> None:
    with pytest.raises(openai.AuthenticationError) as raised:
        client(guarded, key).chat.completions.create(model="aion-auto", messages=HELLO)
    error = raised.value
    assert (error.code, error.type) == ("invalid_api_key", "authentication_error")
    assert key not in str(error.body)
    _refused_once(guarded, provider, error, "invalid_api_key")
    with pytest.raises(openai.AuthenticationError):
        client(guarded, key).models.list()
    assert key not in guarded.log


def test_a_missing_key(guarded: Gateway, provider: Upstream) -> None:
    sdk = client(guarded)
    with pytest.raises(openai.AuthenticationError, match="missing") as raised:
        sdk.chat.completions.create(model="aion-auto", messages=HELLO, extra_headers={"Authorization": openai.Omit()})
    _refused_once(guarded, provider, raised.value, "invalid_api_key")


def test_the_right_key_and_whose_it_is(guarded: Gateway, provider: Upstream) -> None:
    raw = client(guarded, CLIENT_KEY).chat.completions.with_raw_response.create(model="aion-auto", messages=HELLO)
    row = guarded.row(raw.headers["x-request-id"])
    assert (row.outcome, row.key_name, row.tenant) == ("served", "team-a", "acme")
    assert provider.last.header("authorization") == f"Bearer {OPENAI_KEY}"
    assert CLIENT_KEY not in str(provider.last)


def _refused_once(gateway: Gateway, provider: Upstream, error: openai.APIStatusError, code: str) -> None:
    """One row, nothing for the provider, and an error that the SDK does not repeat by itself."""
    assert error.request_id is not None
    row = gateway.row(error.request_id)
    assert (row.outcome, row.error, row.status) == ("refused", code, error.status_code)
    assert provider.received == []
    assert error.response.request.headers["x-stainless-retry-count"] == "0"


def test_an_endpoint_that_is_not_there(gateway: Gateway, provider: Upstream) -> None:
    with pytest.raises(openai.NotFoundError, match="/v1/images/generations"):
        client(gateway).images.generate(prompt="a lighthouse")
    assert provider.received == []


def test_a_providers_400_is_asked_once(gateway: Gateway, provider: Upstream) -> None:
    detail = {"message": "Unsupported", "type": "invalid_request_error", "param": "n", "code": "unsupported_value"}
    provider.answer = lambda _: Answer(status=400, chunks=[json.dumps({"error": detail}).encode()])
    with pytest.raises(openai.BadRequestError) as raised:
        client(gateway).chat.completions.create(model="gpt-mid", messages=HELLO)
    assert (raised.value.code, raised.value.param) == ("unsupported_value", "n")
    assert len(provider.received) == 1
    assert raised.value.request_id is not None
    row = gateway.row(raised.value.request_id)
    assert (row.outcome, row.status, row.model) == ("failed", 400, "gpt-mid")


@pytest.mark.parametrize(("status", "kind"), [(429, openai.RateLimitError), (500, openai.InternalServerError)])
def test_the_sdks_retries_are_not_multiplied(
    gateway: Gateway, provider: Upstream, status: int, kind: type[openai.APIStatusError]
) -> None:
    body = b'{"error":{"message":"not now","type":"server_error","param":null,"code":null}}'
    provider.answer = lambda _: Answer(status=status, chunks=[body], headers=(("retry-after-ms", "1"),))
    with pytest.raises(kind, match="not now"):
        client(gateway, max_retries=1).chat.completions.create(model=f"gpt-fails-{status}", messages=HELLO)
    assert len(provider.received) == 2
    wait_for(lambda: len([row for row in gateway.rows() if row.model == f"gpt-fails-{status}"]) == 2)


def test_a_client_that_waits_as_long_as_told_is_served(gateway: Gateway, provider: Upstream) -> None:
    error = b'{"error":{"message":"slow down","type":"rate_limit_error","param":null,"code":null}}'

    def once(request: Received) -> Answer:
        if len(provider.received) > 1:
            return as_asked(request)
        return Answer(status=429, chunks=[error], headers=(("retry-after", "1"),))

    provider.answer = once
    answer = client(gateway, max_retries=1).chat.completions.create(model="gpt-rests", messages=HELLO)
    assert answer.choices[0].message.content == TEXT


def test_a_client_that_stops_reading(gateway: Gateway, provider: Upstream) -> None:
    never = threading.Event()
    provider.answer = lambda _: Answer(content_type="text/event-stream", chunks=[CHAT_EVENTS[0], never])
    stream = client(gateway).chat.completions.create(model="aion-auto", messages=HELLO, stream=True)
    assert next(stream).choices[0].delta.content == "fo"
    stream.close()
    _check_cut(gateway, provider, stream.response.headers["x-request-id"])


def test_an_async_client_that_is_cancelled(gateway: Gateway, provider: Upstream) -> None:
    never = threading.Event()
    provider.answer = lambda _: Answer(content_type="text/event-stream", chunks=[CHAT_EVENTS[0], never])
    request_ids = []

    async def read(began: asyncio.Event) -> None:
        async with async_client(gateway) as sdk:
            stream = await sdk.chat.completions.create(model="aion-auto", messages=HELLO, stream=True)
            request_ids.append(stream.response.headers["x-request-id"])
            async for _ in stream:
                began.set()

    async def cancel() -> None:
        began = asyncio.Event()
        reading = asyncio.create_task(read(began))
        await asyncio.wait_for(began.wait(), 20)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading

    asyncio.run(cancel())
    _check_cut(gateway, provider, request_ids[0])


def _check_cut(gateway: Gateway, provider: Upstream, request_id: str) -> None:
    assert provider.disconnected.wait(20)
    row = gateway.row(request_id)
    assert (row.outcome, row.status, row.error, row.estimated) == ("cut", 200, "client_gone", True)
    assert row.usage.input_tokens > 0
    assert row.usage.output_tokens > 0
    assert row.cost_nano is not None
    assert row.cost_nano > 0


def test_a_provider_that_breaks_off_does_not_look_like_an_end(gateway: Gateway, provider: Upstream) -> None:
    provider.answer = lambda _: Answer(content_type="text/event-stream", chunks=CHAT_EVENTS[:2], break_off=True)
    stream = client(gateway).chat.completions.create(model="gpt-mid", messages=HELLO, stream=True)
    with pytest.raises(openai.APIError):
        list(stream)
    row = gateway.row(stream.response.headers["x-request-id"])
    assert (row.outcome, row.estimated) == ("cut", True)


def test_models(gateway: Gateway, guarded: Gateway) -> None:
    listed = list(client(gateway).models.list())
    ids = [model.id for model in listed]
    assert {"aion-auto", "aion-escalate", "gpt-small", "gpt-large", "claude-small"} <= set(ids)
    assert len(ids) == len(set(ids))
    assert {model.object for model in listed} == {"model"}
    assert client(gateway).models.retrieve("aion-auto").owned_by == "aion"
    with pytest.raises(openai.NotFoundError):
        client(gateway).models.retrieve("nothing")
    assert [model.id for model in client(guarded, CLIENT_KEY).models.list()]


def test_the_demo(demo: Gateway) -> None:
    sdk = client(demo)
    raw = sdk.chat.completions.with_raw_response.create(model="aion-auto", messages=HELLO)
    assert raw.headers["x-aion-provider"] == "demo"
    whole = raw.parse().choices[0].message.content
    assert whole is not None
    assert "demo" in whole
    stream = sdk.chat.completions.create(model="aion-auto", messages=HELLO, stream=True)
    assert text_of(list(stream)) == whole
    row = demo.row(stream.response.headers["x-request-id"])
    assert (row.outcome, row.provider, row.cost_nano, row.estimated) == ("served", "demo", 0, False)
    choice: Any = {"type": "function", "function": {"name": "now"}}
    called = sdk.chat.completions.create(model="aion-auto", messages=HELLO, tools=TOOLS, tool_choice=choice)
    calls = called.choices[0].message.tool_calls
    assert calls is not None
    assert [c.function.arguments for c in calls if c.type == "function"] == ["{}"]
    assert {model.owned_by for model in sdk.models.list()} == {"aion", "demo"}
