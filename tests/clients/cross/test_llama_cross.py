"""A real llama-server that is configured as if it spoke only the format that the client does not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import anthropic
import httpx
import openai
import pytest
from pydantic import BaseModel

from aion_extproc.accounting.row import LedgerRow
from tests.clients.cross.cases import HELLO
from tests.support.configs import FORGETFUL
from tests.support.gateway import Gateway, running, wait_for
from tests.support.llama import CONTEXT, LlamaServer, server_binary, write_model

pytestmark = pytest.mark.llama

MODEL = "tiny"
TOKENS = 12
VERY_MANY = CONTEXT - 500  # several seconds


class Choice(BaseModel):
    """So small that even random weights get to its end: the server's grammar leaves them nothing else to say."""

    colour: Literal["red", "green"]


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LlamaServer]:
    place = tmp_path_factory.mktemp("llama-cross")
    write_model(place / "tiny.gguf")
    with LlamaServer(server_binary(), place / "tiny.gguf", place / "llama.log", alias=MODEL) as server:
        yield server


@contextmanager
def only(kind: str, base_url: str, directory: Path) -> Iterator[Gateway]:
    models = [{"id": MODEL, "tier": 1, "input_price_per_1m": 1, "output_price_per_1m": 2}]
    provider = {"kind": kind, "base_url": base_url, "api_key": "x", "models": models}
    with running(directory, {"providers": {"local": provider}, "routing": FORGETFUL}) as gateway:
        yield gateway


@pytest.fixture(scope="module")
def chat_only(llama: LlamaServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with only("openai", f"{llama.url}/v1", tmp_path_factory.mktemp("chat-only")) as gateway:
        yield gateway


@pytest.fixture(scope="module")
def messages_only(llama: LlamaServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with only("anthropic", llama.url, tmp_path_factory.mktemp("messages-only")) as gateway:
        yield gateway


def chats(gateway: Gateway) -> Any:
    return openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="x", max_retries=0).chat.completions


def messages(gateway: Gateway) -> Any:
    return anthropic.Anthropic(base_url=gateway.url, api_key="x", max_retries=0).messages


def check_row(row: LedgerRow, usage: tuple[int, int], cached: int) -> None:
    assert (row.outcome, row.status, row.provider, row.model) == ("served", 200, "local", MODEL)
    assert (row.usage.input_tokens, row.usage.output_tokens, row.estimated) == (*usage, False)
    assert row.usage.cache_read_tokens == cached


def test_openai_by_messages(messages_only: Gateway) -> None:
    raw = chats(messages_only).with_raw_response.create(model=MODEL, messages=HELLO, max_tokens=TOKENS)
    answer = raw.parse()
    assert answer.choices[0].message.content
    assert answer.choices[0].finish_reason == "length"
    usage = answer.usage
    assert usage.completion_tokens == TOKENS
    row = messages_only.row(raw.headers["x-request-id"])
    check_row(row, (usage.prompt_tokens, usage.completion_tokens), usage.prompt_tokens_details.cached_tokens)


def test_openai_stream_by_messages(messages_only: Gateway) -> None:
    asked: Any = {"model": MODEL, "messages": HELLO, "max_tokens": TOKENS, "stream_options": {"include_usage": True}}
    stream = chats(messages_only).create(**asked, stream=True)
    chunks = list(stream)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "length"
    usage = chunks[-1].usage
    assert usage.completion_tokens == TOKENS
    row = messages_only.row(stream.response.headers["x-request-id"])
    check_row(row, (usage.prompt_tokens, usage.completion_tokens), usage.prompt_tokens_details.cached_tokens)


def test_anthropic_by_chat(chat_only: Gateway, llama: LlamaServer) -> None:
    # Without chance, the server itself says the same without the gateway.
    body = {"messages": HELLO, "max_tokens": TOKENS, "temperature": 0}
    direct = httpx.post(f"{llama.url}/v1/chat/completions", json={"model": MODEL, **body}).json()
    said = direct["choices"][0]["message"]["content"]
    asked: Any = {"model": MODEL, "messages": HELLO, "max_tokens": TOKENS, "extra_body": {"temperature": 0}}
    raw = messages(chat_only).with_raw_response.create(**asked)
    message = raw.parse()
    assert [(block.type, block.text) for block in message.content] == [("text", said)]
    assert message.stop_reason == "max_tokens"
    usage = message.usage
    assert usage.input_tokens + usage.cache_read_input_tokens == direct["usage"]["prompt_tokens"]
    row = chat_only.row(raw.headers["x-request-id"])
    check_row(row, (direct["usage"]["prompt_tokens"], TOKENS), usage.cache_read_input_tokens)


def test_anthropic_stream_by_chat(chat_only: Gateway) -> None:
    with messages(chat_only).stream(model=MODEL, messages=HELLO, max_tokens=TOKENS) as stream:
        text = "".join(stream.text_stream)
        message = stream.get_final_message()
    assert text
    assert [(block.type, block.text) for block in message.content] == [("text", text)]
    usage = message.usage
    row = chat_only.row(stream.response.headers["x-request-id"])
    check_row(row, (usage.input_tokens + usage.cache_read_input_tokens, TOKENS), usage.cache_read_input_tokens)


@pytest.mark.parametrize("stream", [False, True])
def test_structured_output_by_chat(chat_only: Gateway, stream: bool) -> None:
    asked: Any = {"model": MODEL, "messages": HELLO, "max_tokens": 200, "output_format": Choice}
    if stream:
        with messages(chat_only).stream(**asked) as events:
            message = events.get_final_message()
    else:
        message = messages(chat_only).parse(**asked)
    assert message.parsed_output.colour in ("red", "green")


def test_tools_are_taken(chat_only: Gateway, messages_only: Gateway) -> None:
    """The server reads them as sent; a model of random weights does not call any."""
    schema = {**Choice.model_json_schema(), "additionalProperties": False}
    asked: Any = {"model": MODEL, "messages": HELLO, "max_tokens": TOKENS}
    tool: Any = {"name": "paint", "input_schema": schema}
    message = messages(chat_only).create(**asked, tools=[tool], tool_choice={"type": "auto"})
    assert message.stop_reason == "max_tokens"
    function: Any = {"name": "paint", "parameters": schema}
    answer = chats(messages_only).create(**asked, tools=[{"type": "function", "function": function}])
    assert answer.choices[0].finish_reason == "length"


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages"])
def test_a_client_that_hangs_up_stops_the_server(
    chat_only: Gateway, messages_only: Gateway, llama: LlamaServer, path: str
) -> None:
    gateway = chat_only if path == "/v1/messages" else messages_only
    body = {"model": MODEL, "messages": HELLO, "max_tokens": VERY_MANY, "stream": True}
    with httpx.stream("POST", gateway.url + path, json=body, timeout=30) as answer:
        next(answer.iter_raw())
    row = gateway.row(answer.headers["x-request-id"])
    assert (row.outcome, row.error, row.estimated) == ("cut", "client_gone", True)
    wait_for(lambda: not any(slot["is_processing"] for slot in httpx.get(f"{llama.url}/slots").json()))
