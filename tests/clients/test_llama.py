"""A real llama-server behind the gateway: its tokens, its counts, and what happens when it dies."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anthropic
import httpx
import openai
import pytest

from aion_extproc.accounting.row import LedgerRow
from tests.support.configs import FORGETFUL
from tests.support.gateway import Gateway, free_ports, running, wait_for
from tests.support.llama import CONTEXT, LlamaServer, server_binary, write_model

pytestmark = pytest.mark.llama

MODEL = "tiny"
TOKENS = 12
VERY_MANY = CONTEXT - 500  # several seconds
HELLO: Any = [{"role": "user", "content": "hello"}]
DISCOVERED_PORT = 8081


@pytest.fixture(scope="session")
def binary() -> Path:
    return server_binary()


@pytest.fixture(scope="session")
def gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "tiny.gguf"
    write_model(path)
    return path


@pytest.fixture(scope="module")
def llama(binary: Path, gguf: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LlamaServer]:
    with LlamaServer(binary, gguf, tmp_path_factory.mktemp("llama") / "llama.log", alias=MODEL) as server:
        yield server


@pytest.fixture(scope="module")
def gateway(llama: LlamaServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """The llama-server is tier 1; above it is a provider that nobody may be sent to, for it does not exist."""
    (nobody,) = free_ports(1)
    prices = {"input_price_per_1m": 5, "output_price_per_1m": 25}
    config = {
        "providers": {
            "local": {
                "kind": "llama.cpp",
                "base_url": f"{llama.url}/v1",
                "models": [{"id": MODEL, "tier": 1, "context_window": CONTEXT}],
            },
            "openai": {
                "api_key": "sk-nobody",
                "base_url": f"http://127.0.0.1:{nobody}/v1",
                "models": [{"id": "dear", "tier": 3, **prices}],
            },
        },
        "routing": FORGETFUL,
    }
    with running(tmp_path_factory.mktemp("gateway"), config) as running_gateway:
        yield running_gateway


def check_row(row: LedgerRow, usage: tuple[int, int], cached: int) -> None:
    """Served by the llama-server, with its own counts, for nothing."""
    assert (row.outcome, row.status, row.provider, row.model, row.tier) == ("served", 200, "local", MODEL, 1)
    assert (row.usage.input_tokens, row.usage.output_tokens) == usage
    assert row.usage.cache_read_tokens == cached
    assert (row.cost_nano, row.estimated) == (0, False)


@pytest.mark.parametrize("model", ["aion-auto", "aion-local", MODEL])
def test_openai_json(gateway: Gateway, model: str) -> None:
    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="x", max_retries=0) as sdk:
        raw = sdk.chat.completions.with_raw_response.create(model=model, messages=HELLO, max_tokens=TOKENS)
    answer = raw.parse()
    assert answer.choices[0].message.content
    usage = answer.usage
    assert usage is not None
    assert 0 < usage.completion_tokens <= TOKENS
    assert usage.prompt_tokens > 0
    headers = raw.headers
    assert (headers["x-aion-provider"], headers["x-aion-model"], headers["x-aion-tier"]) == ("local", MODEL, "1")
    assert float(headers["x-aion-cost-usd"]) == 0
    assert float(headers["x-aion-savings-usd"]) > 0
    row = gateway.row(headers["x-request-id"])
    cached = usage.prompt_tokens_details.cached_tokens if usage.prompt_tokens_details else 0
    check_row(row, (usage.prompt_tokens, usage.completion_tokens), cached or 0)
    assert (row.score is not None) == (model == "aion-auto")
    assert row.format == "openai"


@pytest.mark.parametrize("asks_usage", [False, True])
def test_openai_stream(gateway: Gateway, llama: LlamaServer, asks_usage: bool) -> None:
    body: dict[str, Any] = {"messages": HELLO, "max_tokens": TOKENS, "temperature": 0, "seed": 1}
    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="x", max_retries=0) as sdk:
        options: Any = {"stream_options": {"include_usage": True}} if asks_usage else {}
        stream = sdk.chat.completions.create(model="aion-auto", stream=True, **body, **options)
        assert stream.response.headers["x-aion-provider"] == "local"
        chunks = list(stream)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    # Without chance, the server itself says the same without the gateway.
    direct = httpx.post(f"{llama.url}/v1/chat/completions", json={"model": MODEL, **body}).json()
    assert text == direct["choices"][0]["message"]["content"] != ""
    row = gateway.row(stream.response.headers["x-request-id"])
    usages = [chunk.usage for chunk in chunks if chunk.usage]
    assert len(usages) == asks_usage
    for usage in usages:
        assert (usage.prompt_tokens, usage.completion_tokens) == (row.usage.input_tokens, row.usage.output_tokens)
    counts = (direct["usage"]["prompt_tokens"], direct["usage"]["completion_tokens"])
    check_row(row, counts, row.usage.cache_read_tokens)
    assert row.stream
    assert row.ttft_ms is not None


@pytest.mark.parametrize("model", ["aion-auto", "aion-local", MODEL])
def test_anthropic_json(gateway: Gateway, model: str) -> None:
    with anthropic.Anthropic(base_url=gateway.url, api_key="x", max_retries=0) as sdk:
        raw = sdk.messages.with_raw_response.create(model=model, messages=HELLO, max_tokens=TOKENS)
    message = raw.parse()
    assert message.content[0].type == "text"
    assert message.content[0].text
    usage = message.usage
    row = gateway.row(raw.headers["x-request-id"])
    cached = usage.cache_read_input_tokens or 0
    check_row(row, (usage.input_tokens + cached, usage.output_tokens), cached)  # Anthropic leaves the cached ones out
    assert row.format == "anthropic"
    assert raw.headers["x-aion-provider"] == "local"


def test_anthropic_stream(gateway: Gateway) -> None:
    with (
        anthropic.Anthropic(base_url=gateway.url, api_key="x", max_retries=0) as sdk,
        sdk.messages.stream(model="aion-auto", messages=HELLO, max_tokens=TOKENS) as stream,
    ):
        text = "".join(stream.text_stream)
        message = stream.get_final_message()
    assert text
    assert message.content[0].type == "text"
    assert message.content[0].text == text
    row = gateway.row(stream.response.headers["x-request-id"])
    cached = message.usage.cache_read_input_tokens or 0
    check_row(row, (message.usage.input_tokens + cached, message.usage.output_tokens), cached)


def test_what_does_not_fit_its_window_goes_elsewhere(gateway: Gateway) -> None:
    """Tier 1 by its words, but longer than the llama-server can read: there is no such model here."""
    long = [{"role": "user", "content": "hello " * 2 * CONTEXT}]
    answer = gateway.post("/v1/chat/completions", {"model": "aion-local", "messages": long})
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "context_length_exceeded"


def test_a_client_that_hangs_up_stops_the_server(gateway: Gateway, llama: LlamaServer) -> None:
    body = {"model": "aion-local", "messages": HELLO, "max_tokens": VERY_MANY, "stream": True}
    with httpx.stream("POST", f"{gateway.url}/v1/chat/completions", json=body, timeout=30) as answer:
        request_id = answer.headers["x-request-id"]
        next(answer.iter_raw())
    row = gateway.row(request_id)
    assert (row.outcome, row.error, row.estimated, row.cost_nano) == ("cut", "client_gone", True, 0)
    assert row.usage.input_tokens > 0
    assert row.usage.output_tokens > 0
    wait_for(lambda: not any(slot["is_processing"] for slot in httpx.get(f"{llama.url}/slots").json()))
    said = re.findall(r"stop processing: n_tokens = (\d+)", llama.log.read_text())
    assert int(said[-1]) < VERY_MANY


def test_managed(binary: Path, gguf: Path, tmp_path: Path) -> None:
    (port,) = free_ports(1)
    managed = {"model_path": str(gguf), "binary_path": str(binary), "port": port, "threads": 1, "ctx_size": CONTEXT}
    config = {"providers": {"local": {"managed": managed, "models": [{"id": MODEL, "tier": 1}]}}}
    with running(tmp_path, config) as gateway:
        servers = gateway.children("llama-server")
        assert len(servers) == 1
        body = {"model": "aion-local", "messages": HELLO, "max_tokens": TOKENS}
        answer = gateway.post("/v1/chat/completions", body)
        assert (answer.status_code, answer.json()["model"]) == (200, MODEL)
        usage = answer.json()["usage"]
        row = gateway.row(answer.headers["x-request-id"])
        check_row(row, (usage["prompt_tokens"], usage["completion_tokens"]), row.usage.cache_read_tokens)

        # One that dies is started again.
        os.kill(servers[0], signal.SIGKILL)
        wait_for(lambda: gateway.children("llama-server") not in ([], servers))
        wait_for(lambda: _listens(port))
        wait_for(lambda: gateway.post("/v1/chat/completions", body).status_code == 200)

        last = gateway.post("/v1/chat/completions", body).headers["x-request-id"]
        processes = gateway.children("")
        assert gateway.stop() < 4
        assert gateway.process.returncode == 0
        assert not [pid for pid in processes if Path(f"/proc/{pid}").exists()]
        assert not _listens(port)
        assert last in [row.request_id for row in gateway.rows()]


def test_managed_without_its_model(binary: Path, tmp_path: Path) -> None:
    managed = {"model_path": str(tmp_path / "nothing.gguf"), "binary_path": str(binary), "port": free_ports(1)[0]}
    config = {"providers": {"local": {"managed": managed, "models": [{"id": MODEL, "tier": 1}]}}}
    with pytest.raises(AssertionError, match=r"providers\.local\.managed\.model_path: there is no file"):
        contextlib.ExitStack().enter_context(running(tmp_path, config))


def test_discovery(binary: Path, gguf: Path, tmp_path: Path) -> None:
    if _listens(DISCOVERED_PORT):
        pytest.skip(f"NOT TESTED: somebody listens on port {DISCOVERED_PORT}, where discovery looks")
    with (
        LlamaServer(binary, gguf, tmp_path / "llama.log", DISCOVERED_PORT, "found-me"),
        running(tmp_path / "gateway", None) as gateway,
    ):
        assert "DEMO" not in gateway.log
        assert f"found llama.cpp at 127.0.0.1:{DISCOVERED_PORT}: found-me" in gateway.log
        assert "llama.cpp/found-me" in gateway.log
        assert "anthropic, openai" in gateway.log
        for path in ("/v1/chat/completions", "/v1/messages"):
            answer = gateway.post(path, {"model": "aion-auto", "messages": HELLO, "max_tokens": TOKENS})
            assert (answer.status_code, answer.headers["x-aion-provider"]) == (200, "llama.cpp")
        models = httpx.get(f"{gateway.url}/v1/models").json()["data"]
        listed = {model["id"]: model for model in models}
        assert {"aion-auto", "aion-local", "found-me"} <= set(listed)
        assert listed["found-me"]["aion"]["providers"][0]["context_window"] == CONTEXT


def test_a_killed_server(binary: Path, gguf: Path, tmp_path: Path) -> None:
    with LlamaServer(binary, gguf, tmp_path / "llama.log", alias=MODEL) as llama:
        models = [{"id": MODEL, "tier": 1}]
        config = {"providers": {"local": {"kind": "llama.cpp", "base_url": f"{llama.url}/v1", "models": models}}}
        with running(tmp_path / "gateway", config) as gateway:
            # In the middle of an answer: it was cut, and does not look whole.
            ask: Any = {"model": "aion-local", "messages": HELLO, "max_tokens": VERY_MANY, "stream": True}
            with httpx.stream("POST", f"{gateway.url}/v1/messages", json=ask, timeout=30) as answer:
                pieces = answer.iter_raw()
                next(pieces)
                llama.kill()
                with pytest.raises(httpx.RemoteProtocolError):
                    list(pieces)
            row = gateway.row(answer.headers["x-request-id"])
            assert (row.outcome, row.cost_nano, row.estimated) == ("cut", 0, True)

            # Afterwards: a clear error in the format of the API that was called.
            chats = openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="x", max_retries=0).chat.completions
            with pytest.raises(openai.APIStatusError) as raised:
                chats.create(model="aion-local", messages=HELLO, max_tokens=TOKENS)
            _check_failed(gateway, raised.value.response.headers["x-request-id"], raised.value.status_code)
            assert "could not connect to the model provider" in raised.value.message
            messages = anthropic.Anthropic(base_url=gateway.url, api_key="x", max_retries=0).messages
            with pytest.raises(anthropic.APIStatusError) as raised_a:
                messages.create(model="aion-local", messages=HELLO, max_tokens=TOKENS)
            _check_failed(gateway, raised_a.value.response.headers["x-request-id"], raised_a.value.status_code)
            assert raised_a.value.type in ("api_error", "overloaded_error")
            assert json.loads(raised_a.value.response.content)["type"] == "error"


def _check_failed(gateway: Gateway, request_id: str, status: int) -> None:
    assert status in (502, 503)
    row = gateway.row(request_id)
    assert (row.outcome, row.provider, row.error, row.status) == ("failed", "local", "connect_failed", status)
    assert (row.usage.input_tokens, row.usage.output_tokens, row.cost_nano) == (0, 0, 0)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
