"""Requests through the real Envoy: what the provider receives and what the client gets back."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from tests.support.answers import CHAT, CHAT_EVENTS, CHAT_USAGE, DONE, MESSAGE, MESSAGE_EVENTS
from tests.support.configs import ANTHROPIC_KEY, OPENAI_KEY
from tests.support.gateway import Gateway, wait_for
from tests.support.upstream import Answer, Upstream


def chat(text: str, **more: Any) -> dict[str, Any]:
    return {"model": "aion-auto", "messages": [{"role": "user", "content": text}], **more}


@pytest.mark.parametrize(
    ("text", "tier", "model"),
    [
        ("hello", "1", "gpt-small"),
        ("fix this typo", "1", "gpt-small"),
        ("add a null check on line 42", "2", "gpt-mid"),
        ("refactor this package to use asyncpg", "3", "gpt-large"),
    ],
)
def test_the_seeds_examples_reach_their_tiers(
    gateway: Gateway, provider: Upstream, text: str, tier: str, model: str
) -> None:
    answer = gateway.post("/v1/chat/completions", chat(text))
    assert answer.status_code == 200
    assert answer.headers["x-aion-tier"] == tier
    assert answer.headers["x-aion-model"] == model
    assert answer.headers["x-aion-provider"] == "openai"
    assert 0 <= float(answer.headers["x-aion-score"]) <= 1
    assert answer.headers["x-aion-attempts"] == "1"
    assert json.loads(provider.last.body)["model"] == model


def test_a_json_answer_comes_back_byte_for_byte_with_its_exact_cost(gateway: Gateway) -> None:
    answer = gateway.post("/v1/chat/completions", chat("hello"))
    assert answer.content == CHAT
    # 600 plain at $0.5, 400 cached at $0.05, 200 out at $2, each per million
    assert answer.headers["x-aion-cost-usd"] == "0.000720"
    # the same at claude-large: 600 x 15 + 400 x 1.5 + 200 x 60
    assert answer.headers["x-aion-savings-usd"] == "0.020880"
    row = gateway.row(answer.headers["x-request-id"])
    assert (row.outcome, row.status, row.model, row.provider) == ("served", 200, "gpt-small", "openai")
    assert (row.cost_nano, row.baseline_nano, row.estimated) == (720_000, 21_600_000, False)
    assert (row.usage.input_tokens, row.usage.cache_read_tokens) == (1000, 400)
    assert (row.usage.output_tokens, row.usage.reasoning_tokens) == (200, 50)
    assert row.asked_model == "aion-auto"
    assert row.latency_ms > 0


def test_an_anthropic_answer_counts_both_cache_lifetimes(gateway: Gateway, provider: Upstream) -> None:
    answer = gateway.post("/v1/messages?beta=true", chat("hello", max_tokens=100), anthropic_version="2023-06-01")
    assert answer.content == MESSAGE
    assert provider.last.path == "/v1/messages?beta=true"
    # claude-small: 500 plain x 1, 400 read x 0.1, 60 written x 1.25, 40 written for an hour x 2, 200 out x 4
    assert answer.headers["x-aion-cost-usd"] == "0.001495"
    row = gateway.row(answer.headers["x-request-id"])
    assert row.cost_nano == 1_495_000
    assert row.usage.input_tokens == 1000
    assert row.usage.cache_write_1h_tokens == 40


def test_a_chat_stream_is_the_providers_without_the_usage_chunk_nobody_asked_for(
    gateway: Gateway, provider: Upstream
) -> None:
    answer = gateway.post("/v1/chat/completions", chat("hello", stream=True))
    assert json.loads(provider.last.body)["stream_options"] == {"include_usage": True}
    assert answer.content == b"".join([*CHAT_EVENTS, DONE])
    assert float(answer.headers["x-aion-cost-usd"]) > 0  # an estimate
    row = gateway.row(answer.headers["x-request-id"])
    assert (row.cost_nano, row.estimated, row.stream) == (720_000, False, True)
    assert row.ttft_ms is not None


def test_a_client_that_asked_for_usage_gets_it(gateway: Gateway) -> None:
    body = chat("hello", stream=True, stream_options={"include_usage": True})
    answer = gateway.post("/v1/chat/completions", body)
    assert answer.content == b"".join([*CHAT_EVENTS, CHAT_USAGE, DONE])


def test_a_message_stream_comes_back_byte_for_byte(gateway: Gateway) -> None:
    answer = gateway.post("/v1/messages", chat("hello", stream=True, max_tokens=64))
    assert answer.content == b"".join(MESSAGE_EVENTS)
    row = gateway.row(answer.headers["x-request-id"])
    assert (row.usage.input_tokens, row.usage.output_tokens, row.estimated) == (1000, 200, False)
    assert row.usage.cache_write_tokens == 100


def test_one_hour_cache_writes_in_a_stream_are_told_from_the_request(gateway: Gateway) -> None:
    block = {"type": "text", "text": "hello", "cache_control": {"type": "ephemeral", "ttl": "1h"}}
    messages = [{"role": "user", "content": [block]}]
    body = {"model": "claude-small", "max_tokens": 64, "stream": True, "messages": messages}
    row = gateway.row(gateway.post("/v1/messages", body).headers["x-request-id"])
    assert row.usage.cache_write_1h_tokens == 100
    assert not row.estimated
    assert row.score is None  # a concrete model is not classified


def test_the_provider_gets_its_own_key_and_nothing_of_the_clients(gateway: Gateway, provider: Upstream) -> None:
    gateway.post(
        "/v1/chat/completions",
        chat("hello"),
        authorization="Bearer client-key",
        proxy_authorization="Basic client-key",
        x_goog_api_key="client-key",
        x_goog_user_project="who-pays",
        x_admin_secret="client-key",
        x_real_ip="192.0.2.1",
        forwarded="for=192.0.2.1",
        x_forwarded_host="client.example",
        cookie="session=1",
        x_aion_priority="bulk",
        x_tenant_id="t",
        x_custom="kept",
        x_aion_response="process",
        x_envoy_max_retries="9",
    )
    received = provider.last
    assert received.header("authorization") == f"Bearer {OPENAI_KEY}"
    assert received.header("x-custom") == "kept"
    assert received.header("content-length") == str(len(received.body))
    assert received.header("transfer-encoding") is None
    assert received.header("host") == f"127.0.0.1:{provider.port}"
    assert received.header("accept-encoding") == "identity"
    names = {name for name, _ in received.headers}
    assert not {name for name in names if name.startswith(("x-aion", "x-envoy", "x-forwarded", "x-goog"))}
    assert not names & {"cookie", "x-tenant-id", "x-api-key", "forwarded", "x-real-ip"}
    assert "client-key" not in str(received.headers)
    gateway.post("/v1/messages", chat("hello", max_tokens=5), x_api_key="client-key")
    assert provider.last.header("x-api-key") == ANTHROPIC_KEY
    assert provider.last.header("anthropic-version") == "2023-06-01"
    assert "client-key" not in str(provider.last.headers)


def test_preferences_are_read_and_taken_out(gateway: Gateway, provider: Upstream) -> None:
    plain = gateway.post("/v1/chat/completions", chat("hello"))
    hinted = gateway.post("/v1/chat/completions", chat("hello", aion_preferences={"tier": 3}))
    assert float(hinted.headers["x-aion-score"]) > float(plain.headers["x-aion-score"])
    assert "aion_preferences" not in json.loads(provider.last.body)


def test_virtual_and_concrete_models(gateway: Gateway) -> None:
    escalated = gateway.post("/v1/chat/completions", chat("hello") | {"model": "aion-escalate"})
    assert escalated.headers["x-aion-model"] == "gpt-large"
    concrete = gateway.post("/v1/chat/completions", chat("refactor it all") | {"model": "gpt-small"})
    assert concrete.headers["x-aion-model"] == "gpt-small"
    assert "x-aion-score" not in concrete.headers


def test_paths_that_people_write(gateway: Gateway) -> None:
    for path in ("/v1/chat/completions/", "//v1/chat/completions", "/v1/v1/chat/completions", "/chat/completions"):
        assert gateway.post(path, chat("hello")).status_code == 200, path


def _not_paused(gateway: Gateway, body: object) -> httpx.Response | None:
    answer = gateway.post("/v1/chat/completions", body)
    return None if "no_healthy_model" in answer.text else answer


@pytest.mark.parametrize("streamed", [False, True])
def test_a_provider_error_reaches_the_client_as_it_is(gateway: Gateway, provider: Upstream, streamed: bool) -> None:
    error = b'{"error":{"message":"slow down","type":"rate_limit_error","code":null}}'
    body = chat("hello", stream=streamed) | {"model": "gpt-spare"}
    provider.answer = lambda _: Answer(status=429, chunks=[error], headers=(("retry-after", "1"),))
    answer = wait_for(lambda: _not_paused(gateway, body))
    assert (answer.status_code, answer.content, answer.headers["retry-after"]) == (429, error, "1")
    assert answer.headers["x-aion-cost-usd"] == answer.headers["x-aion-savings-usd"] == "0.000000"
    row = gateway.row(answer.headers["x-request-id"])
    assert (row.outcome, row.status, row.error, row.cost_nano) == ("failed", 429, "provider_429", 0)


def test_request_ids_are_ours(gateway: Gateway) -> None:
    first = gateway.post("/v1/chat/completions", chat("hello"), x_request_id="same")
    second = gateway.post("/v1/chat/completions", chat("hello"), x_request_id="same")
    ids = {answer.headers["x-request-id"] for answer in (first, second)}
    assert len(ids | {"same"}) == 3
    assert {gateway.row(one).request_id for one in ids} == ids


def test_the_api_is_served_beside_the_models(gateway: Gateway) -> None:
    assert httpx.get(gateway.url + "/health").json()["status"] == "ok"
    ids = [model["id"] for model in httpx.get(gateway.url + "/v1/models").json()["data"]]
    assert {"aion-auto", "aion-escalate", "gpt-small", "claude-large"} <= set(ids)
    savings = httpx.get(gateway.url + "/aion/v1/metrics/savings?range=1h").json()
    assert savings["total_requests"] > 0
    assert httpx.get(gateway.url + "/metrics").status_code == 404  # on the admin port only
