"""The official Anthropic SDK for Python, served by a provider that speaks only chat completions."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import anthropic
import pytest
from anthropic import Anthropic, AsyncAnthropic

from tests.clients.cross.cases import (
    ARGUMENTS,
    CALLS,
    HELLO,
    PERSON,
    PIECE,
    RESULTS,
    TEXT,
    Person,
    Weather,
    a_person,
    calling,
    check_row,
)
from tests.support.gateway import Gateway
from tests.support.says import Call, Says
from tests.support.scripted import Scripted

TOOLS: Any = [
    {"name": "weather", "description": "Forecast of a city.", "input_schema": Weather.model_json_schema()},
    {"name": "now", "input_schema": {"type": "object", "properties": {}}, "cache_control": {"type": "ephemeral"}},
]
ASK: Any = {"model": "aion-auto", "max_tokens": 2000, "messages": HELLO}
# What Anthropic makes of 900 tokens, 400 of them read from the cache, and 200 of an answer.
USAGE = (500, 200, 400)
WHOLE = (900, 200, 400)  # as the ledger counts
SMALL_COST = 500 * 500 + 400 * 50 + 200 * 2000


def client(gateway: Gateway) -> Anthropic:
    return Anthropic(base_url=gateway.url, api_key="whatever", max_retries=0)


def counts(usage: Any) -> tuple[int, int, int]:
    assert not usage.cache_creation_input_tokens
    return usage.input_tokens, usage.output_tokens, usage.cache_read_input_tokens


def text_of(message: Any) -> str:
    return "".join(block.text for block in message.content if block.type == "text")


def test_an_answer(gpt_gateway: Gateway, gpt: Scripted) -> None:
    raw = client(gpt_gateway).messages.with_raw_response.create(**ASK)
    message = raw.parse()
    assert [(block.type, block.text) for block in message.content if block.type == "text"] == [("text", TEXT)]
    assert (message.type, message.role, message.model) == ("message", "assistant", "gpt-4.1-mini")
    assert (message.stop_reason, message.stop_sequence) == ("end_turn", None)
    assert counts(message.usage) == USAGE
    headers = raw.headers
    assert (headers["x-aion-model"], headers["x-aion-provider"]) == ("gpt-4.1-mini", "openai")
    assert headers["x-aion-cost-usd"] == "0.000670"
    assert "x-aion-dropped" not in headers
    row = check_row(gpt_gateway, headers["x-request-id"], "gpt-4.1-mini", WHOLE, SMALL_COST)
    assert (row.format, row.stream) == ("anthropic", False)


@pytest.mark.parametrize("cut", [0, PIECE], ids=["events", "cut anywhere"])
def test_a_stream(gpt_gateway: Gateway, gpt: Scripted, cut: int) -> None:
    gpt.says(Says(cut=cut))
    with client(gpt_gateway).messages.stream(**ASK) as stream:
        texts = list(stream.text_stream)
        message = stream.get_final_message()
    assert texts == Says().words  # each as it came, not held back
    assert text_of(message) == TEXT
    assert (message.model, message.stop_reason) == ("gpt-4.1-mini", "end_turn")
    assert counts(message.usage) == USAGE
    request_id = stream.response.headers["x-request-id"]
    assert check_row(gpt_gateway, request_id, "gpt-4.1-mini", WHOLE, SMALL_COST).stream


def test_the_order_of_a_streams_events(gpt_gateway: Gateway, gpt: Scripted) -> None:
    gpt.says(calling("openai", thinking="Both at once."))
    events = list(client(gpt_gateway).messages.create(**ASK, tools=TOOLS, stream=True))
    kinds = [event.type for event in events if event.type != "content_block_delta"]
    blocks = ["content_block_start", "content_block_stop"] * 4
    assert kinds == ["message_start", *blocks, "message_delta", "message_stop"]
    starts = [event.content_block.type for event in events if event.type == "content_block_start"]
    assert starts == ["thinking", "text", "tool_use", "tool_use"]
    indexes = [event.index for event in events if event.type == "content_block_start"]
    assert indexes == [0, 1, 2, 3]


def check_calls(message: Any) -> None:
    called = [(block.id, block.name, block.input) for block in message.content if block.type == "tool_use"]
    assert called == [(call.id, call.name, call.arguments) for call in CALLS["openai"]]
    assert (message.stop_reason, text_of(message)) == ("tool_use", "I will look.")


def second_turn(gpt_gateway: Gateway, gpt: Scripted, message: Any, **more: Any) -> Any:
    """Sends both results back in one user message, as Anthropic wants it."""
    results: Any = [
        {"type": "tool_result", "tool_use_id": call.id, "content": result}
        for call, result in zip(CALLS["openai"], RESULTS, strict=True)
    ]
    results.append({"type": "text", "text": "So?"})
    turns: Any = [*HELLO, {"role": "assistant", "content": message.content}, {"role": "user", "content": results}]
    answer = client(gpt_gateway).messages.create(**{**ASK, "messages": turns, "tools": TOOLS, **more})
    assert text_of(answer) == TEXT
    sent = gpt.last["messages"]
    assert [turn["role"] for turn in sent] == ["user", "assistant", "tool", "tool", "user"]
    called = [
        (call["id"], call["function"]["name"], json.loads(call["function"]["arguments"]))
        for call in sent[1]["tool_calls"]
    ]
    assert called == [(call.id, call.name, call.arguments) for call in CALLS["openai"]]
    assert [turn["tool_call_id"] for turn in sent[2:4]] == [call.id for call in CALLS["openai"]]
    for turn, result in zip(sent[2:4], RESULTS, strict=True):
        assert result in json.dumps(turn["content"], ensure_ascii=False)
    assert "So?" in json.dumps(sent[4]["content"])
    return answer


@pytest.mark.parametrize("model", ["gpt-4.1-mini", "gpt-5.4", "gpt-6"])
def test_parallel_tool_calls(gpt_gateway: Gateway, gpt: Scripted, model: str) -> None:
    gpt.says(calling("openai"), Says())
    message = client(gpt_gateway).messages.create(**{**ASK, "model": model}, tools=TOOLS)
    check_calls(message)
    functions = [tool["function"] for tool in gpt.last["tools"]]
    assert [function["name"] for function in functions] == ["weather", "now"]
    assert functions[0]["parameters"]["required"] == ["city", "days", "note"]
    second_turn(gpt_gateway, gpt, message, model=model)


@pytest.mark.parametrize("cut", [0, PIECE], ids=["events", "cut anywhere"])
def test_parallel_tool_calls_in_a_stream(gpt_gateway: Gateway, gpt: Scripted, cut: int) -> None:
    gpt.says(calling("openai", cut=cut), Says())
    fragments: dict[int, list[str]] = {1: [], 2: []}
    with client(gpt_gateway).messages.stream(**ASK, tools=TOOLS) as stream:
        for event in stream:
            if event.type == "content_block_delta" and event.delta.type == "input_json_delta":
                fragments[event.index].append(event.delta.partial_json)
        message = stream.get_final_message()
    assert len(fragments[1]) > 5  # as they came, not all at the end
    assert json.loads("".join(fragments[1])) == ARGUMENTS
    check_calls(message)
    assert counts(message.usage) == USAGE
    second_turn(gpt_gateway, gpt, message)


@pytest.mark.parametrize("stream", [False, True])
def test_thinking_comes_along(gpt_gateway: Gateway, gpt: Scripted, stream: bool) -> None:
    gpt.says(calling("openai", thinking="Both at once, 日本.", reasoning=50, cut=PIECE), Says())
    thinking: Any = {"type": "enabled", "budget_tokens": 1500}
    asked: Any = {**ASK, "model": "gpt-5.4", "tools": TOOLS, "thinking": thinking}
    if stream:
        with client(gpt_gateway).messages.stream(**asked) as events:
            message: Any = events.get_final_message()
    else:
        message = client(gpt_gateway).messages.create(**asked)
    check_calls(message)
    assert (message.content[0].type, message.content[0].thinking) == ("thinking", "Both at once, 日本.")
    assert gpt.last["reasoning_effort"] == "low"
    # The client gives it back, though OpenAI has no place for it.
    second_turn(gpt_gateway, gpt, message, model="gpt-5.4", thinking=thinking)


@pytest.mark.parametrize("model", ["gpt-4.1-mini", "gpt-6"])
@pytest.mark.parametrize("stream", [False, True])
def test_structured_output(gpt_gateway: Gateway, gpt: Scripted, model: str, stream: bool) -> None:
    gpt.says(a_person(cut=PIECE))
    asked: Any = {**ASK, "model": model, "output_format": Person}
    if stream:
        with client(gpt_gateway).messages.stream(**asked) as events:
            message: Any = events.get_final_message()
    else:
        message = client(gpt_gateway).messages.parse(**asked)
    assert message.parsed_output == Person(**PERSON)  # type: ignore[arg-type]
    schema = gpt.last["response_format"]["json_schema"]
    assert set(schema["schema"]["properties"]) == {"name", "age", "tags"}
    assert schema["strict"] is True


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("stop", "reason"), [("length", "max_tokens"), ("content_filter", "refusal")])
def test_why_it_stopped(gpt_gateway: Gateway, gpt: Scripted, stop: str, reason: str, stream: bool) -> None:
    gpt.says(Says(stop=stop))
    message = one(gpt_gateway, {**ASK, "max_tokens": 20, "stop_sequences": ["END"]}, stream)
    assert (message.stop_reason, text_of(message)) == (reason, TEXT)
    assert (gpt.last["max_completion_tokens"], gpt.last["stop"]) == (20, ["END"])


@pytest.mark.parametrize("stream", [False, True])
def test_a_refusal_is_told(gpt_gateway: Gateway, gpt: Scripted, stream: bool) -> None:
    gpt.says(Says("", refusal="I won't."))
    message = one(gpt_gateway, ASK, stream)
    assert message.stop_reason == "refusal"
    assert "won't" in message.model_dump_json()


def one(gateway: Gateway, asked: Any, stream: bool) -> Any:
    if stream:
        with client(gateway).messages.stream(**asked) as events:
            return events.get_final_message()
    return client(gateway).messages.create(**asked)


def test_what_a_conversation_may_hold(gpt_gateway: Gateway, gpt: Scripted) -> None:
    """Everything at once that has a place on the other side, as real applications send it."""
    pixel = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": pixel}}
    pdf = {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0x"}}
    plain = {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "A plain text."}}
    marked = {"cache_control": {"type": "ephemeral"}}
    result = {"type": "tool_result", "tool_use_id": "toolu_1", "is_error": True, **marked}
    turns: Any = [
        {"role": "user", "content": [{"type": "text", "text": "One.", **marked}]},
        {"role": "user", "content": [image, pdf, plain, {"type": "text", "text": "Two."}]},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "toolu_1", "name": "now", "input": {}}]},
        {"role": "user", "content": [{**result, "content": [{"type": "text", "text": "It broke."}, image]}]},
        {"role": "assistant", "content": "Then not."},
        {"role": "user", "content": "So?"},
    ]
    system: Any = [{"type": "text", "text": "Be brief.", **marked}, {"type": "text", "text": "Be kind."}]
    raw = client(gpt_gateway).messages.with_raw_response.create(
        model="gpt-4.1-mini",
        max_tokens=100,
        messages=turns,
        system=system,
        tools=TOOLS,
        tool_choice={"type": "any", "disable_parallel_tool_use": True},
        stop_sequences=["END"],
        metadata={"user_id": "user-1"},
        service_tier="auto",
        extra_body={"temperature": 0.5},
    )
    assert text_of(raw.parse()) == TEXT
    sent = gpt.last
    text = json.dumps(sent)
    for said in ("Be brief.", "Be kind.", "One.", "Two.", "A plain text.", "It broke.", "Then not.", "So?"):
        assert said in text
    assert f"data:image/png;base64,{pixel}" in text
    assert "data:application/pdf;base64,JVBERi0x" in text
    assert (sent["tool_choice"], sent["parallel_tool_calls"]) == ("required", False)
    assert (sent["max_completion_tokens"], sent["stop"], sent["temperature"]) == (100, ["END"], 0.5)
    assert sent["user"] == "user-1"


@pytest.mark.parametrize("model", ["gpt-5-mini", "o4-mini", "gpt-6"])
def test_a_reasoning_model_is_not_told_what_it_refuses(gpt_gateway: Gateway, gpt: Scripted, model: str) -> None:
    asked: Any = {**ASK, "model": model, "extra_body": {"temperature": 0.5, "top_p": 0.9}}
    raw = client(gpt_gateway).messages.with_raw_response.create(**asked)
    assert text_of(raw.parse()) == TEXT


def test_more_stop_sequences_than_openai_takes(gpt_gateway: Gateway, gpt: Scripted) -> None:
    """Other servers take more, so OpenAI says itself that it does not; none is lost silently."""
    with pytest.raises(anthropic.BadRequestError, match="stop"):
        client(gpt_gateway).messages.create(**ASK, stop_sequences=list("abcde"))
    assert len(gpt.problems) == 1
    gpt.problems.clear()


def test_what_cannot_be_carried_over_is_named(gpt_gateway: Gateway, gpt: Scripted) -> None:
    asked: Any = {"extra_body": {"top_k": 7}, "thinking": {"type": "adaptive"}, "inference_geo": "us"}
    raw = client(gpt_gateway).messages.with_raw_response.create(**ASK, **asked)
    assert text_of(raw.parse()) == TEXT
    assert raw.headers["x-aion-dropped"].replace(" ", "").split(",") == ["inference_geo", "thinking", "top_k"]


def test_names_and_ids_that_openai_does_not_take(gpt_gateway: Gateway, gpt: Scripted) -> None:
    """Anthropic's tool names may have 128 characters, and its ids any length."""
    long = "mcp__" + "a_long_server_name_" * 4 + "search"
    tool: Any = {"name": long, "input_schema": {"type": "object"}}
    gpt.replies(lambda body: Says("", (Call("c1", body["tools"][0]["function"]["name"]),)))
    message = client(gpt_gateway).messages.create(**ASK, tools=[tool])
    assert [block.name for block in message.content if block.type == "tool_use"] == [long]
    with client(gpt_gateway).messages.stream(**ASK, tools=[tool]) as stream:
        assert [block.name for block in stream.get_final_message().content if block.type == "tool_use"] == [long]
    gpt.says(Says())
    identity = "toolu_" + "x" * 100
    turns: Any = [
        *HELLO,
        {"role": "assistant", "content": [{"type": "tool_use", "id": identity, "name": long, "input": {}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": identity, "content": "yes"}]},
    ]
    assert text_of(client(gpt_gateway).messages.create(**{**ASK, "messages": turns}, tools=[tool])) == TEXT


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("identity", ["chatcmpl-1", None], ids=["the same", "none"])
def test_an_id_of_its_own_for_every_answer(
    gpt_gateway: Gateway, gpt: Scripted, identity: str | None, stream: bool
) -> None:
    """Ollama draws one of 999, others have none; Claude Code joins answers with the same id, and so loops for ever."""
    gpt.says(Says("", (Call("", "now"),), id=identity))
    answers = [one(gpt_gateway, {**ASK, "tools": TOOLS}, stream) for _ in range(2)]
    assert len({answer.id for answer in answers} - {"", None}) == 2
    assert len({answer.content[0].id for answer in answers}) == 2


@pytest.mark.parametrize("stream", [False, True])
def test_tool_calls_without_ids_can_be_answered(gpt_gateway: Gateway, gpt: Scripted, stream: bool) -> None:
    """Some servers leave them out, or name them by their place: "functions.now:0"."""
    calls = (Call("", "weather", ARGUMENTS), Call("", "now"))
    gpt.says(Says("", calls), Says())
    message = one(gpt_gateway, {**ASK, "tools": TOOLS}, stream)
    ids = [block.id for block in message.content if block.type == "tool_use"]
    assert len(set(ids)) == 2
    assert all(ids)
    results = [{"type": "tool_result", "tool_use_id": identity, "content": "1"} for identity in ids]
    turns: Any = [*HELLO, {"role": "assistant", "content": message.content}, {"role": "user", "content": results}]
    assert text_of(one(gpt_gateway, {**ASK, "messages": turns, "tools": TOOLS}, stream)) == TEXT


def test_the_beta_endpoint(gpt_gateway: Gateway, gpt: Scripted) -> None:
    betas: Any = ["context-1m-2025-08-07"]
    message: Any = client(gpt_gateway).beta.messages.create(**ASK, betas=betas)
    assert text_of(message) == TEXT
    with client(gpt_gateway).beta.messages.stream(**ASK, betas=betas) as stream:
        assert text_of(stream.get_final_message()) == TEXT


def test_twenty_at_once_each_get_their_own_answer(gpt_gateway: Gateway, gpt: Scripted) -> None:
    gpt.replies(lambda body: Says(json.dumps(body["messages"][-1]["content"], ensure_ascii=False)))

    async def ask(sdk: AsyncAnthropic, number: int) -> str:
        asked: Any = {**ASK, "messages": [{"role": "user", "content": f"number {number} ñ"}]}
        if number % 2:
            async with sdk.messages.stream(**asked) as stream:
                return text_of(await stream.get_final_message())
        return text_of(await sdk.messages.create(**asked))

    async def all_of_them() -> list[str]:
        async with AsyncAnthropic(base_url=gpt_gateway.url, api_key="x", max_retries=0) as sdk:
            return await asyncio.gather(*(ask(sdk, number) for number in range(20)))

    for number, answer in enumerate(asyncio.run(all_of_them())):
        assert f"number {number} ñ" in answer
