"""The official Anthropic SDK against a running gateway."""

from __future__ import annotations

import asyncio
import json
import threading
from typing import Any

import anthropic
import pytest
from anthropic import Anthropic, AsyncAnthropic

from tests.clients import streams
from tests.clients.conftest import CLIENT_KEY
from tests.support.answers import MESSAGE_EVENTS
from tests.support.configs import ANTHROPIC_KEY
from tests.support.gateway import Gateway, wait_for
from tests.support.upstream import Answer, Upstream

HELLO: Any = [{"role": "user", "content": "hello"}]
ASK: Any = {"model": "aion-auto", "max_tokens": 64, "messages": HELLO}
TOOLS: Any = [{"name": name, "input_schema": {"type": "object", "properties": {}}} for name in ("weather", "now")]


def client(gateway: Gateway, key: str = "whatever", **more: Any) -> Anthropic:
    return Anthropic(base_url=gateway.url, api_key=key, **more)


def async_client(gateway: Gateway, key: str = "whatever", **more: Any) -> AsyncAnthropic:
    return AsyncAnthropic(base_url=gateway.url, api_key=key, **more)


def text_of(content: Any) -> str:
    return "".join(block.text for block in content if block.type == "text")


def error_type(error: anthropic.APIStatusError) -> str:
    """The type in the error's body, which has the shape of Anthropic's API."""
    assert isinstance(error.body, dict)
    assert error.body["type"] == "error"
    assert error.body["request_id"] == error.response.headers["x-request-id"]
    assert error.type == error.body["error"]["type"]
    return str(error.type)


def test_an_answer_and_what_the_headers_say_of_it(gateway: Gateway, provider: Upstream) -> None:
    raw = client(gateway).messages.with_raw_response.create(**ASK)
    message = raw.parse()
    assert text_of(message.content) == "four"
    assert (message.usage.input_tokens, message.usage.cache_read_input_tokens) == (500, 400)
    headers = raw.headers
    assert (headers["x-aion-model"], headers["x-aion-provider"]) == ("claude-small", "anthropic")
    assert headers["x-aion-tier"] == "1"
    assert 0 <= float(headers["x-aion-score"]) < 0.35
    assert headers["x-aion-attempts"] == "1"
    assert headers["x-aion-cost-usd"] == "0.001495"
    row = gateway.row(headers["x-request-id"])
    assert (row.outcome, row.usage.input_tokens, row.usage.output_tokens) == ("served", 1000, 200)
    assert provider.last.header("x-api-key") == ANTHROPIC_KEY
    assert provider.last.header("anthropic-version") == raw.http_request.headers["anthropic-version"]
    assert json.loads(provider.last.body) == {**ASK, "model": "claude-small"}


def test_the_whole_text_of_a_stream(gateway: Gateway) -> None:
    sdk = client(gateway)
    with sdk.messages.stream(**ASK) as stream:
        assert stream.response.headers["x-aion-model"] == "claude-small"
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert text == text_of(final.content) == "four"
    assert (final.usage.input_tokens, final.usage.output_tokens) == (500, 200)
    events = [event.type for event in sdk.messages.create(**ASK, stream=True)]
    assert events[0] == "message_start"
    assert events[-1] == "message_stop"
    assert len(events) >= len(MESSAGE_EVENTS) - 1  # an SDK may keep pings for itself


def test_the_beta_endpoint_and_its_headers(gateway: Gateway, provider: Upstream) -> None:
    betas = ["context-1m-2025-08-07", "made-up-2030-01-01"]
    raw = client(gateway).beta.messages.with_raw_response.create(**ASK, betas=betas, extra_query={"beta": "true"})
    assert text_of(raw.parse().content) == "four"
    assert provider.last.path == "/v1/messages?beta=true"
    assert provider.last.header("anthropic-beta") == "context-1m-2025-08-07,made-up-2030-01-01"


async def _async_texts(gateway: Gateway) -> tuple[str, str]:
    async with async_client(gateway) as sdk:
        message = await sdk.messages.create(**ASK)
        async with sdk.messages.stream(**ASK) as stream:
            return text_of(message.content), "".join([text async for text in stream.text_stream])


def test_async(gateway: Gateway) -> None:
    assert asyncio.run(_async_texts(gateway)) == ("four", "four")


def test_tool_use_in_an_answer(gateway: Gateway, provider: Upstream) -> None:
    provider.answer = lambda _: Answer(chunks=[streams.messages_tool_answer()])
    sdk = client(gateway)
    message = sdk.messages.create(**ASK, tools=TOOLS)
    _check_tool_use(message)
    assert json.loads(provider.last.body)["tools"] == TOOLS
    # The next turn: thinking with its signature, the calls, and both results in one user message.
    results: Any = [
        {"type": "tool_result", "tool_use_id": block.id, "content": "21 °C"}
        for block in message.content
        if block.type == "tool_use"
    ]
    turn: Any = [*HELLO, {"role": "assistant", "content": message.content}, {"role": "user", "content": results}]
    sdk.messages.create(model="aion-auto", max_tokens=64, tools=TOOLS, messages=turn)
    sent = json.loads(provider.last.body)["messages"]
    assert [block["type"] for block in sent[1]["content"]] == ["thinking", "tool_use", "tool_use"]
    assert sent[1]["content"][0]["signature"] == "c2lnbmF0dXJl"
    assert [block["tool_use_id"] for block in sent[2]["content"]] == ["toolu_w", "toolu_n"]


@pytest.mark.parametrize("cut", [False, True], ids=["events", "cut anywhere"])
def test_tool_use_in_a_stream(gateway: Gateway, provider: Upstream, cut: bool) -> None:
    chunks = streams.messages_tool_stream()
    provider.answer = streams.streamed(streams.in_small_pieces(chunks) if cut else chunks)
    fragments: dict[int, list[str]] = {}
    with client(gateway).messages.stream(**ASK, tools=TOOLS) as stream:
        for event in stream:
            if event.type == "content_block_delta" and event.delta.type == "input_json_delta":
                fragments.setdefault(event.index, []).append(event.delta.partial_json)
        message = stream.get_final_message()
    assert fragments == {2: ["", *streams.FRAGMENTS], 3: [""]}  # not joined, not cut
    _check_tool_use(message)
    assert text_of(message.content) == "I will look."
    row = gateway.row(stream.response.headers["x-request-id"])
    assert (row.outcome, row.usage.input_tokens, row.usage.cache_read_tokens) == ("served", 90, 10)
    assert (row.usage.output_tokens, row.estimated) == (40, False)


def _check_tool_use(message: Any) -> None:
    assert message.stop_reason == "tool_use"
    calls = [(block.id, block.name, block.input) for block in message.content if block.type == "tool_use"]
    assert calls == [("toolu_w", "weather", streams.ARGUMENTS), ("toolu_n", "now", {})]
    thought = message.content[0]
    assert (thought.type, thought.thinking, thought.signature) == ("thinking", "Both at once.", "c2lnbmF0dXJl")


def test_fifty_at_once_each_get_their_own_answer(gateway: Gateway, provider: Upstream) -> None:
    provider.answer = streams.echo

    async def one(sdk: AsyncAnthropic, number: int) -> tuple[str, str]:
        said: Any = [{"role": "user", "content": f"number {number} ñ" * (1 + number % 7)}]
        if number % 2:
            async with sdk.messages.stream(model="aion-auto", max_tokens=64, messages=said) as stream:
                text = "".join([text async for text in stream.text_stream])
                return text, stream.response.headers["x-request-id"]
        raw = await sdk.messages.with_raw_response.create(model="aion-auto", max_tokens=64, messages=said)
        return text_of((await raw.parse()).content), raw.headers["x-request-id"]

    async def all_of_them() -> list[tuple[str, str]]:
        async with async_client(gateway, max_retries=0) as sdk:
            return await asyncio.gather(*(one(sdk, number) for number in range(50)))

    answers = asyncio.run(all_of_them())
    assert [text for text, _ in answers] == [f"number {number} ñ" * (1 + number % 7) for number in range(50)]
    assert len(provider.received) == 50
    ids = {request_id for _, request_id in answers}
    assert len(ids) == 50
    rows = wait_for(lambda: found if len(found := [r for r in gateway.rows() if r.request_id in ids]) == 50 else None)
    assert {(row.outcome, row.estimated) for row in rows} == {("served", False)}


def test_the_request_id_where_the_sdk_looks_for_it(gateway: Gateway) -> None:
    message = client(gateway).messages.create(**ASK)
    assert message._request_id
    with pytest.raises(anthropic.NotFoundError) as raised:
        client(gateway).messages.create(model="nothing", max_tokens=5, messages=HELLO)
    assert raised.value.request_id


def test_an_unknown_model(gateway: Gateway, provider: Upstream) -> None:
    with pytest.raises(anthropic.NotFoundError, match="claude-small") as raised:
        client(gateway).messages.create(model="claude-smal", max_tokens=5, messages=HELLO)
    assert error_type(raised.value) == "not_found_error"
    _refused_once(gateway, provider, raised.value, "model_not_found")


def test_a_bad_body(gateway: Gateway, provider: Upstream) -> None:
    nonsense: Any = "hello"
    with pytest.raises(anthropic.BadRequestError, match="messages") as raised:
        client(gateway).messages.create(model="aion-auto", max_tokens=5, messages=nonsense)
    assert error_type(raised.value) == "invalid_request_error"
    _refused_once(gateway, provider, raised.value, "invalid_type")


@pytest.mark.parametrize("key", ["wrong", f"{CLIENT_KEY}x", ANTHROPIC_KEY])
def test_a_wrong_key_never_reaches_a_provider(guarded: Gateway, provider: Upstream, key: str) -> None:
    with pytest.raises(anthropic.AuthenticationError) as raised:
        client(guarded, key).messages.create(**ASK)
    assert error_type(raised.value) == "authentication_error"
    assert key not in str(raised.value.body)
    _refused_once(guarded, provider, raised.value, "invalid_api_key")
    with pytest.raises(anthropic.AuthenticationError):
        client(guarded, key).models.list()
    assert key not in guarded.log


def test_a_missing_key(guarded: Gateway, provider: Upstream) -> None:
    none: Any = {"X-Api-Key": anthropic.Omit(), "Authorization": anthropic.Omit()}
    with pytest.raises(anthropic.AuthenticationError, match="missing") as raised:
        client(guarded).messages.create(**ASK, extra_headers=none)
    assert error_type(raised.value) == "authentication_error"
    _refused_once(guarded, provider, raised.value, "invalid_api_key")


@pytest.mark.parametrize("header", ["api_key", "auth_token"])
def test_the_right_key_and_whose_it_is(guarded: Gateway, provider: Upstream, header: str) -> None:
    keys: Any = {"api_key": None, "auth_token": None, header: CLIENT_KEY}
    raw = Anthropic(base_url=guarded.url, **keys).messages.with_raw_response.create(**ASK)
    row = guarded.row(raw.headers["x-request-id"])
    assert (row.outcome, row.key_name, row.tenant) == ("served", "team-a", "acme")
    assert provider.last.header("x-api-key") == ANTHROPIC_KEY
    assert CLIENT_KEY not in str(provider.last)


def _refused_once(gateway: Gateway, provider: Upstream, error: anthropic.APIStatusError, code: str) -> None:
    """One row, nothing for the provider, and an error that the SDK does not repeat by itself."""
    row = gateway.row(error.response.headers["x-request-id"])
    assert (row.outcome, row.error, row.status, row.format) == ("refused", code, error.status_code, "anthropic")
    assert provider.received == []
    assert error.response.request.headers["x-stainless-retry-count"] == "0"


def test_a_providers_400_is_asked_once(gateway: Gateway, provider: Upstream) -> None:
    error = {"type": "invalid_request_error", "message": "max_tokens: 64 > 32"}
    body = json.dumps({"type": "error", "error": error, "request_id": "req_1"}).encode()
    provider.answer = lambda _: Answer(status=400, chunks=[body])
    with pytest.raises(anthropic.BadRequestError, match="64 > 32") as raised:
        client(gateway).messages.create(model="claude-mid", max_tokens=64, messages=HELLO)
    assert raised.value.type == "invalid_request_error"
    assert len(provider.received) == 1
    row = gateway.row(raised.value.response.headers["x-request-id"])
    assert (row.outcome, row.status, row.model) == ("failed", 400, "claude-mid")


@pytest.mark.parametrize(
    ("status", "type_", "kind"),
    [
        (429, "rate_limit_error", anthropic.RateLimitError),
        (500, "api_error", anthropic.InternalServerError),
        (529, "overloaded_error", anthropic.APIStatusError),
    ],
)
def test_the_sdks_retries_are_not_multiplied(
    gateway: Gateway, provider: Upstream, status: int, type_: str, kind: type[anthropic.APIStatusError]
) -> None:
    body = json.dumps({"type": "error", "error": {"type": type_, "message": "not now"}}).encode()
    provider.answer = lambda _: Answer(status=status, chunks=[body], headers=(("retry-after-ms", "1"),))
    model = f"claude-fails-{status}"
    with pytest.raises(kind, match="not now") as raised:
        client(gateway, max_retries=1).messages.create(model=model, max_tokens=5, messages=HELLO)
    assert (raised.value.status_code, raised.value.type) == (status, type_)
    assert len(provider.received) == 2
    wait_for(lambda: len([row for row in gateway.rows() if row.model == model]) == 2)


def test_an_error_event_in_a_stream(gateway: Gateway, provider: Upstream) -> None:
    error = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
    provider.answer = streams.streamed([*MESSAGE_EVENTS[:4], streams.event(error, "error")])
    with (
        pytest.raises(anthropic.APIStatusError, match="Overloaded"),
        client(gateway).messages.stream(model="claude-mid", max_tokens=64, messages=HELLO) as stream,
    ):
        list(stream.text_stream)


def test_a_client_that_stops_reading(gateway: Gateway, provider: Upstream) -> None:
    never = threading.Event()
    provider.answer = lambda _: Answer(content_type="text/event-stream", chunks=[*MESSAGE_EVENTS[:4], never])
    with client(gateway).messages.stream(**ASK) as stream:
        assert next(iter(stream.text_stream)) == "four"
    _check_cut(gateway, provider, stream.response.headers["x-request-id"])


def test_an_async_client_that_is_cancelled(gateway: Gateway, provider: Upstream) -> None:
    never = threading.Event()
    provider.answer = lambda _: Answer(content_type="text/event-stream", chunks=[*MESSAGE_EVENTS[:4], never])
    request_ids = []

    async def read(began: asyncio.Event) -> None:
        async with async_client(gateway) as sdk, sdk.messages.stream(**ASK) as stream:
            request_ids.append(stream.response.headers["x-request-id"])
            async for _ in stream.text_stream:
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
    provider.answer = lambda _: Answer(content_type="text/event-stream", chunks=MESSAGE_EVENTS[:4], break_off=True)
    stream = client(gateway).messages.create(model="claude-mid", max_tokens=64, messages=HELLO, stream=True)
    with pytest.raises(Exception, match=r"(?i)closed|provider"):  # as the HTTP library names it, not the SDK
        list(stream)
    row = gateway.row(stream.response.headers["x-request-id"])
    assert (row.outcome, row.estimated) == ("cut", True)


def test_models(gateway: Gateway, guarded: Gateway) -> None:
    sdk = client(gateway)
    page = sdk.models.list(limit=1000)
    ids = [model.id for model in page]  # follows has_more
    assert {"aion-auto", "aion-escalate", "claude-small", "gpt-small"} <= set(ids)
    assert len(ids) == len(set(ids))
    assert {model.type for model in page.data} == {"model"}
    assert sdk.models.retrieve("aion-auto").display_name
    with pytest.raises(anthropic.NotFoundError):
        sdk.models.retrieve("nothing")
    assert [model.id for model in client(guarded, CLIENT_KEY).models.list()]


def test_the_demo(demo: Gateway) -> None:
    sdk = client(demo)
    ask: Any = {**ASK, "max_tokens": 256}
    raw = sdk.messages.with_raw_response.create(**ask)
    assert raw.headers["x-aion-provider"] == "demo"
    whole = text_of(raw.parse().content)
    assert "demo" in whole
    with sdk.messages.stream(**ask) as stream:
        assert "".join(stream.text_stream) == whole
    row = demo.row(stream.response.headers["x-request-id"])
    assert (row.outcome, row.provider, row.cost_nano, row.estimated) == ("served", "demo", 0, False)
    called = sdk.messages.create(**ask, tools=TOOLS, tool_choice={"type": "tool", "name": "now"})
    assert [(b.name, b.input) for b in called.content if b.type == "tool_use"] == [("now", {})]
    assert "aion-auto" in [model.id for model in sdk.models.list()]
