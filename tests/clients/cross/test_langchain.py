"""LangChain's models, each served by a provider that speaks only the other format."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_anthropic import ChatAnthropic
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_openai import ChatOpenAI
from pydantic import BaseModel

from tests.clients.cross.cases import CALLS, PERSON, PIECE, TEXT, Now, Person, Weather, a_person, calling
from tests.support.gateway import Gateway
from tests.support.says import Call, Says
from tests.support.scripted import Scripted

ASKED = [SystemMessage("Be brief."), HumanMessage("hello")]
CLIENTS = ["openai", "anthropic"]


@pytest.fixture(params=CLIENTS)
def client(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def provider(client: str, request: pytest.FixtureRequest) -> Scripted:
    found = request.getfixturevalue("claude" if client == "openai" else "gpt")
    assert isinstance(found, Scripted)
    return found


@pytest.fixture
def model(client: str, request: pytest.FixtureRequest) -> BaseChatModel:
    gateway = request.getfixturevalue("claude_gateway" if client == "openai" else "gpt_gateway")
    assert isinstance(gateway, Gateway)
    options: dict[str, Any] = {"model": "aion-auto", "api_key": "whatever", "max_retries": 0}
    if client == "openai":
        return ChatOpenAI(base_url=f"{gateway.url}/v1", stream_usage=True, **options)
    return ChatAnthropic(base_url=gateway.url, **options, max_tokens_to_sample=2000)


def check_usage(message: AIMessage) -> None:
    usage = message.usage_metadata
    assert usage is not None
    # LangChain's convention is OpenAI's.
    assert (usage["input_tokens"], usage["output_tokens"], usage["total_tokens"]) == (900, 200, 1100)
    assert usage["input_token_details"]["cache_read"] == 400


def whole(model: Any, asked: Any) -> AIMessage:
    """The sum of a stream's chunks."""
    chunks = list(model.stream(asked))
    message = chunks[0]
    for chunk in chunks[1:]:
        message += chunk
    assert isinstance(message, AIMessage)
    return message


def test_an_answer(model: BaseChatModel, provider: Scripted) -> None:
    message = model.invoke(ASKED)
    assert (message.text, message.tool_calls) == (TEXT, [])
    check_usage(message)
    assert "Be brief." in str(provider.last)


@pytest.mark.parametrize("cut", [0, PIECE], ids=["events", "cut anywhere"])
def test_a_stream(model: BaseChatModel, provider: Scripted, cut: int) -> None:
    provider.says(Says(cut=cut))
    message = whole(model, ASKED)
    assert message.text == TEXT
    check_usage(message)


def provider_of(client: str) -> str:
    return "anthropic" if client == "openai" else "openai"


@pytest.mark.parametrize("stream", [False, True])
def test_parallel_tool_calls(client: str, model: BaseChatModel, provider: Scripted, stream: bool) -> None:
    calls = CALLS[provider_of(client)]
    provider.says(calling(provider_of(client), cut=PIECE), Says())
    kinds: list[tuple[str, type[BaseModel]]] = [("weather", Weather), ("now", Now)]
    tools = [{"name": name, "description": "", "parameters": kind.model_json_schema()} for name, kind in kinds]
    bound = model.bind_tools(tools)
    message = whole(bound, ASKED) if stream else bound.invoke(ASKED)
    assert isinstance(message, AIMessage)
    called = [(call["id"], call["name"], call["args"]) for call in message.tool_calls]
    assert called == [(call.id, call.name, call.arguments) for call in calls]
    assert message.invalid_tool_calls == []
    assert message.text == "I will look."
    results = [ToolMessage(result, tool_call_id=call.id) for call, result in zip(calls, ("21 °C", "noon"), strict=True)]
    assert bound.invoke([*ASKED, message, *results]).text == TEXT
    sent = str(provider.last["messages"])
    assert "21 °C" in sent
    assert "noon" in sent


def test_structured_output(model: BaseChatModel, provider: Scripted) -> None:
    provider.says(a_person())
    assert model.with_structured_output(Person, method="json_schema").invoke(ASKED) == Person(**PERSON)  # type: ignore[arg-type]


def test_structured_output_by_a_forced_tool(client: str, model: BaseChatModel, provider: Scripted) -> None:
    call = CALLS[provider_of(client)][0]
    provider.replies(lambda body: Says("", (Call(call.id, "Person", PERSON),)))
    assert model.with_structured_output(Person, method="function_calling").invoke(ASKED) == Person(**PERSON)  # type: ignore[arg-type]
    assert "Person" in str(provider.last["tool_choice"])
