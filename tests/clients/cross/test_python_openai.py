"""The official OpenAI SDK for Python, served by a provider that speaks only Anthropic's format."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI, OpenAI

from tests.clients.cross.cases import (
    ARGUMENTS,
    CALLS,
    HELLO,
    PERSON,
    PIECE,
    RESULTS,
    TEXT,
    Now,
    Person,
    Weather,
    a_person,
    calling,
    check_row,
)
from tests.support.gateway import Gateway
from tests.support.says import SIGNATURE, Says
from tests.support.scripted import Scripted

TOOLS: Any = [openai.pydantic_function_tool(Weather, name="weather"), openai.pydantic_function_tool(Now, name="now")]
# What OpenAI makes of 500 tokens, 400 more that were read from the cache, and 200 of an answer.
USAGE = (900, 200, 400)
SMALL_COST = 500 * 1000 + 400 * 100 + 200 * 4000


def client(gateway: Gateway) -> OpenAI:
    return OpenAI(base_url=f"{gateway.url}/v1", api_key="whatever", max_retries=0)


def counts(usage: Any) -> tuple[int, int, int]:
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
    return usage.prompt_tokens, usage.completion_tokens, usage.prompt_tokens_details.cached_tokens


def test_an_answer(claude_gateway: Gateway, claude: Scripted) -> None:
    raw = client(claude_gateway).chat.completions.with_raw_response.create(model="aion-auto", messages=HELLO)
    answer = raw.parse()
    assert (answer.choices[0].message.content, answer.choices[0].finish_reason) == (TEXT, "stop")
    assert (answer.object, answer.model, answer.choices[0].message.tool_calls) == (
        "chat.completion",
        "claude-haiku-4-5",
        None,
    )
    assert answer.usage is not None
    assert counts(answer.usage) == USAGE
    headers = raw.headers
    assert (headers["x-aion-model"], headers["x-aion-provider"]) == ("claude-haiku-4-5", "anthropic")
    assert headers["x-aion-cost-usd"] == "0.001340"
    assert "x-aion-dropped" not in headers
    row = check_row(claude_gateway, headers["x-request-id"], "claude-haiku-4-5", USAGE, SMALL_COST)
    assert (row.format, row.stream) == ("openai", False)


@pytest.mark.parametrize("stream", [False, True])
def test_what_was_written_to_a_cache_is_part_of_the_prompt(
    claude_gateway: Gateway, claude: Scripted, stream: bool
) -> None:
    claude.says(Says(written=100))
    chats = client(claude_gateway).chat.completions.with_raw_response
    asked: Any = {"model": "aion-auto", "messages": HELLO}
    if stream:
        raw: Any = chats.create(**asked, stream=True, stream_options={"include_usage": True})
        usage = list(raw.parse())[-1].usage
    else:
        raw = chats.create(**asked)
        usage = raw.parse().usage
    assert counts(usage) == (1000, 200, 400)
    row = check_row(
        claude_gateway, raw.headers["x-request-id"], "claude-haiku-4-5", (1000, 200, 400), SMALL_COST + 100 * 1250
    )
    assert row.usage.cache_write_tokens == 100


@pytest.mark.parametrize("cut", [0, PIECE], ids=["events", "cut anywhere"])
def test_a_stream(claude_gateway: Gateway, claude: Scripted, cut: int) -> None:
    claude.says(Says(cut=cut))
    asked: Any = {"model": "aion-auto", "messages": HELLO, "stream": True}
    stream = client(claude_gateway).chat.completions.create(**asked, stream_options={"include_usage": True})
    chunks = list(stream)
    deltas = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices]
    assert "".join(delta or "" for delta in deltas) == TEXT
    assert len([delta for delta in deltas if delta]) == len(Says().words)  # each as it came, not held back
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "stop"
    assert (chunks[-1].choices, counts(chunks[-1].usage)) == ([], USAGE)
    assert {(chunk.id, chunk.model, chunk.object) for chunk in chunks} == {
        (chunks[0].id, "claude-haiku-4-5", "chat.completion.chunk")
    }
    row = check_row(claude_gateway, stream.response.headers["x-request-id"], "claude-haiku-4-5", USAGE, SMALL_COST)
    assert row.stream


def test_a_stream_without_a_count_when_none_was_asked_for(claude_gateway: Gateway, claude: Scripted) -> None:
    stream = client(claude_gateway).chat.completions.create(model="aion-auto", messages=HELLO, stream=True)
    chunks = list(stream)
    assert all(len(chunk.choices) == 1 and chunk.usage is None for chunk in chunks)
    check_row(claude_gateway, stream.response.headers["x-request-id"], "claude-haiku-4-5", USAGE, SMALL_COST)


def check_calls(message: Any) -> None:
    called = [
        (call.id, call.type, call.function.name, json.loads(call.function.arguments)) for call in message.tool_calls
    ]
    assert called == [(call.id, "function", call.name, call.arguments) for call in CALLS["anthropic"]]
    assert message.content == "I will look."


def second_turn(claude_gateway: Gateway, claude: Scripted, message: Any, **more: Any) -> None:
    """Sends both results back, as the SDK's documentation does."""
    results = [
        {"role": "tool", "tool_call_id": call.id, "content": result}
        for call, result in zip(message.tool_calls, RESULTS, strict=True)
    ]
    turns: Any = [*HELLO, message, *results]
    answer = client(claude_gateway).chat.completions.create(model="aion-auto", messages=turns, tools=TOOLS, **more)
    assert answer.choices[0].message.content == TEXT
    sent = claude.last["messages"]
    assert [turn["role"] for turn in sent] == ["user", "assistant", "user"]
    used = [(part["id"], part["name"], part["input"]) for part in sent[1]["content"] if part["type"] == "tool_use"]
    assert used == [(call.id, call.name, call.arguments) for call in CALLS["anthropic"]]
    assert [(part["type"], part["tool_use_id"]) for part in sent[2]["content"]] == [
        ("tool_result", call.id) for call in CALLS["anthropic"]
    ]
    for part, result in zip(sent[2]["content"], RESULTS, strict=True):
        assert result in json.dumps(part["content"], ensure_ascii=False)


def test_parallel_tool_calls(claude_gateway: Gateway, claude: Scripted) -> None:
    claude.says(calling("anthropic"), Says())
    answer = client(claude_gateway).chat.completions.parse(model="aion-auto", messages=HELLO, tools=TOOLS)
    message = answer.choices[0].message
    assert answer.choices[0].finish_reason == "tool_calls"
    check_calls(message)
    assert message.tool_calls
    assert [call.function.parsed_arguments for call in message.tool_calls] == [Weather(**ARGUMENTS), Now()]  # type: ignore[arg-type]
    assert [tool["name"] for tool in claude.last["tools"]] == ["weather", "now"]
    assert claude.last["tools"][0]["input_schema"]["required"] == ["city", "days", "note"]
    second_turn(claude_gateway, claude, message)


@pytest.mark.parametrize("cut", [0, PIECE], ids=["events", "cut anywhere"])
def test_parallel_tool_calls_in_a_stream(claude_gateway: Gateway, claude: Scripted, cut: int) -> None:
    claude.says(calling("anthropic", cut=cut), Says())
    asked: Any = {"model": "aion-auto", "messages": HELLO, "tools": TOOLS}
    fragments: dict[int, list[str]] = {0: [], 1: []}
    with client(claude_gateway).chat.completions.stream(**asked) as stream:
        for event in stream:
            if event.type == "tool_calls.function.arguments.delta":
                fragments[event.index].append(event.arguments_delta)
        answer = stream.get_final_completion()
    assert len(fragments[0]) > 5  # as they came, not all at the end
    assert json.loads("".join(fragments[0])) == ARGUMENTS
    assert json.loads("".join(fragments[1])) == {}
    assert answer.choices[0].finish_reason == "tool_calls"
    check_calls(answer.choices[0].message)
    second_turn(claude_gateway, claude, answer.choices[0].message)


@pytest.mark.parametrize("model", ["claude-haiku-4-5", "claude-opus-5-5"])
@pytest.mark.parametrize("stream", [False, True])
def test_thinking_comes_along_and_goes_back(
    claude_gateway: Gateway, claude: Scripted, model: str, stream: bool
) -> None:
    claude.says(calling("anthropic", thinking="Both at once, 日本.", reasoning=50, cut=PIECE), Says())
    asked: Any = {"model": model, "messages": HELLO, "tools": TOOLS, "reasoning_effort": "medium"}
    chats = client(claude_gateway).chat.completions
    if stream:
        with chats.stream(**asked, stream_options={"include_usage": True}) as events:
            answer: Any = events.get_final_completion()
    else:
        answer = chats.create(**asked)
    message = answer.choices[0].message
    check_calls(message)
    assert message.reasoning_content == "Both at once, 日本."
    assert answer.usage.completion_tokens_details.reasoning_tokens == 50
    assert claude.last["thinking"]["type"] == ("adaptive" if model == "claude-opus-5-5" else "enabled")
    # Without its thinking, a turn that goes on after tools is refused.
    results = [{"role": "tool", "tool_call_id": call.id, "content": "1"} for call in message.tool_calls]
    turns: Any = [*HELLO, message.model_dump(exclude_none=True), *results]
    assert chats.create(**{**asked, "messages": turns}).choices[0].message.content == TEXT
    thought = claude.last["messages"][1]["content"][0]
    assert (thought["type"], thought.get("thinking"), thought.get("signature")) == (
        "thinking",
        "Both at once, 日本.",
        SIGNATURE,
    )


def test_a_client_that_does_not_give_thinking_back_is_served(claude_gateway: Gateway, claude: Scripted) -> None:
    claude.says(calling("anthropic", thinking="Both."), Says())
    asked: Any = {"model": "claude-haiku-4-5", "tools": TOOLS, "reasoning_effort": "high"}
    chats = client(claude_gateway).chat.completions
    message: Any = chats.create(messages=HELLO, **asked).choices[0].message
    calls = [call.model_dump() for call in message.tool_calls]
    results = [{"role": "tool", "tool_call_id": call["id"], "content": "1"} for call in calls]
    turns: Any = [*HELLO, {"role": "assistant", "content": None, "tool_calls": calls}, *results]
    assert chats.create(messages=turns, **asked).choices[0].message.content == TEXT


@pytest.mark.parametrize("model", ["claude-haiku-4-5", "claude-opus-5-5"])
@pytest.mark.parametrize("stream", [False, True])
def test_structured_output(claude_gateway: Gateway, claude: Scripted, model: str, stream: bool) -> None:
    claude.says(a_person(cut=PIECE))
    asked: Any = {"model": model, "messages": HELLO, "response_format": Person}
    chats = client(claude_gateway).chat.completions
    if stream:
        with chats.stream(**asked) as events:
            answer: Any = events.get_final_completion()
    else:
        answer = chats.parse(**asked)
    assert answer.choices[0].message.parsed == Person(**PERSON)  # type: ignore[arg-type]
    schema = claude.last["output_config"]["format"]["schema"]
    assert set(schema["properties"]) == {"name", "age", "tags"}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("stop", "reason"), [("max_tokens", "length"), ("stop_sequence", "stop"), ("refusal", "content_filter")]
)
def test_why_it_stopped(claude_gateway: Gateway, claude: Scripted, stop: str, reason: str, stream: bool) -> None:
    claude.says(Says(stop=stop, refusal="Not that." if stop == "refusal" else ""))
    asked: Any = {"model": "aion-auto", "messages": HELLO, "max_completion_tokens": 20, "stop": ["END"]}
    with client(claude_gateway).chat.completions.stream(**asked) as events:
        if stream:
            list(events)
            choice: Any = events.current_completion_snapshot.choices[0]
        else:
            choice = client(claude_gateway).chat.completions.create(**asked).choices[0]
    assert (choice.finish_reason, choice.message.content) == (reason, TEXT)
    assert choice.message.refusal == ("Not that." if stop == "refusal" else None)
    assert (claude.last["max_tokens"], claude.last["stop_sequences"]) == (20, ["END"])


def test_what_a_conversation_may_hold(claude_gateway: Gateway, claude: Scripted) -> None:
    """Everything at once that has a place on the other side, as real applications send it."""
    pixel = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
    image = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{pixel}", "detail": "low"}}
    call = {"id": "call_Q.1:2", "type": "function", "function": {"name": "now", "arguments": ""}}
    turns: Any = [
        {"role": "developer", "content": "Be brief."},
        {"role": "system", "content": [{"type": "text", "text": "Be kind."}]},
        {"role": "user", "content": "One."},
        {"role": "user", "content": [{"type": "text", "text": "Two."}, image, {"type": "text", "text": ""}]},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_Q.1:2", "content": ""},
        {"role": "user", "content": "And?"},
        {"role": "system", "content": "Now in French."},
        {"role": "user", "content": "So?"},
    ]
    raw = client(claude_gateway).chat.completions.with_raw_response.create(
        model="claude-haiku-4-5",
        messages=turns,
        tools=[{"type": "function", "function": {"name": "now"}}],
        tool_choice="required",
        parallel_tool_calls=False,
        temperature=1.7,
        stop="END",
        max_tokens=100,
        user="user-1",
        n=1,
        stream=False,
    )
    assert raw.parse().choices[0].message.content == TEXT
    sent = claude.last
    text = json.dumps(sent)
    for said in ("Be brief.", "Be kind.", "One.", "Two.", "And?", "Now in French.", "So?"):
        assert said in text
    assert pixel in text
    assert (sent["max_tokens"], sent["stop_sequences"]) == (100, ["END"])
    assert sent["tool_choice"] == {"type": "any", "disable_parallel_tool_use": True}
    assert sent["metadata"] == {"user_id": "user-1"}
    assert sent["tools"][0]["name"] == "now"


@pytest.mark.parametrize("model", ["claude-haiku-4-5", "claude-opus-4-5", "claude-opus-5-5"])
def test_sampling_goes_where_it_is_taken(claude_gateway: Gateway, claude: Scripted, model: str) -> None:
    chats = client(claude_gateway).chat.completions
    raw = chats.with_raw_response.create(model=model, messages=HELLO, temperature=0.3)
    assert raw.parse().choices[0].message.content == TEXT
    if model == "claude-opus-5-5":
        assert "temperature" not in claude.last
        assert raw.headers["x-aion-dropped"] == "temperature"
    else:
        assert claude.last["temperature"] == 0.3
        assert "x-aion-dropped" not in raw.headers
    # Both at once are refused by all models since 4.1.
    assert chats.create(model=model, messages=HELLO, temperature=0.3, top_p=0.9).choices[0].message.content == TEXT
    forced: Any = {"tools": TOOLS, "tool_choice": "required", "reasoning_effort": "high", "temperature": 0.2}
    assert chats.create(model=model, messages=HELLO, **forced).choices[0].message.content == TEXT


def test_what_cannot_be_carried_over_is_named(claude_gateway: Gateway, claude: Scripted) -> None:
    asked: Any = {"logprobs": True, "top_logprobs": 2, "seed": 7, "logit_bias": {"50256": -100}, "verbosity": "low"}
    raw = client(claude_gateway).chat.completions.with_raw_response.create(model="aion-auto", messages=HELLO, **asked)
    assert raw.parse().choices[0].message.content == TEXT
    assert raw.headers["x-aion-dropped"].replace(" ", "").split(",") == sorted(asked)
    stream = client(claude_gateway).chat.completions.create(
        model="aion-auto", messages=HELLO, seed=7, presence_penalty=0.5, stream=True
    )
    assert stream.response.headers["x-aion-dropped"].replace(" ", "").split(",") == ["presence_penalty", "seed"]
    stream.close()


def test_two_answers_cannot_be_had(claude_gateway: Gateway, claude: Scripted) -> None:
    with pytest.raises(openai.BadRequestError, match=r"\bn\b") as raised:
        client(claude_gateway).chat.completions.create(model="aion-auto", messages=HELLO, n=2)
    assert raised.value.param == "n"
    assert raised.value.type == "invalid_request_error"
    assert claude.bodies == []
    row = claude_gateway.row(raised.value.response.headers["x-request-id"])
    assert (row.outcome, row.status) == ("refused", 400)


def test_twenty_at_once_each_get_their_own_answer(claude_gateway: Gateway, claude: Scripted) -> None:
    claude.replies(lambda body: Says(json.dumps(body["messages"][-1]["content"], ensure_ascii=False)))

    async def one(sdk: AsyncOpenAI, number: int) -> str:
        said: Any = [{"role": "user", "content": f"number {number} ñ"}]
        if number % 2:
            async with sdk.chat.completions.stream(model="aion-auto", messages=said) as stream:
                answer: Any = await stream.get_final_completion()
        else:
            answer = await sdk.chat.completions.create(model="aion-auto", messages=said)
        return str(answer.choices[0].message.content)

    async def all_of_them() -> list[str]:
        async with AsyncOpenAI(base_url=f"{claude_gateway.url}/v1", api_key="x", max_retries=0) as sdk:
            return await asyncio.gather(*(one(sdk, number) for number in range(20)))

    for number, answer in enumerate(asyncio.run(all_of_them())):
        assert f"number {number} ñ" in answer


def test_an_empty_last_turn_is_no_prefill(claude_gateway: Gateway, claude: Scripted) -> None:
    """OpenAI takes it. Left out, the assistant's turn before it would be the last, which newer models refuse."""
    turns: Any = [*HELLO, {"role": "assistant", "content": "One."}, {"role": "user", "content": ""}]
    answer = client(claude_gateway).chat.completions.create(model="claude-opus-5-5", messages=turns)
    assert answer.choices[0].message.content == TEXT
    assert claude.last["messages"][-1]["role"] == "user"
