"""Budgets and limits through the real gateway: 4 workers that share a file, or Redis."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.answers import CHAT_EVENTS, as_asked
from tests.support.configs import two_providers
from tests.support.gateway import Gateway, running, wait_for
from tests.support.redis import RedisServer, redis_server
from tests.support.upstream import Answer, Received, Upstream

CHAT, MESSAGES = "/v1/chat/completions", "/v1/messages"
HI = [{"role": "user", "content": "hi"}]
WORKERS = {"workers": 4, "worker_drain_timeout": "1s"}


def key(name: str, **rules: Any) -> dict[str, Any]:
    return {"key": f"sk-{name}-0123456789", "name": name, **rules}


KEYS = [
    key("free"),
    key("poor", budget={"daily_limit_usd": "0.000001"}),
    key("frugal", budget={"monthly_limit_usd": "0.001", "on_limit": "downgrade"}),
    key("strict", models=["gpt-*"], tiers=[1, 2]),
    key("past", expires_at="2020-01-01"),
    key("slow", limits={"requests_per_minute": 3, "tokens_per_minute": 100000}),
    key("narrow", limits={"concurrent_requests": 1}),
    key("trusted", trusted=True, tags=["from-key"]),
]
SECTIONS: dict[str, Any] = {
    "auth": {"keys": KEYS},
    "tenants": {
        "acme": {"provider_keys": {"openai": "sk-of-acme-12345678"}},
        "broke": {"budget": {"daily_limit_usd": "0.000001"}},
    },
    "services": {"nightly": {"budget": {"daily_limit_usd": "0.000001"}}},
    "gateway": WORKERS,
}


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with redis_server(tmp_path_factory.mktemp("redis")) as server:
        yield server


def metered(request: Received) -> Answer:
    """A few tokens in, half of what is allowed out: never more than was estimated."""
    body = json.loads(request.body)
    answer = as_asked(request)
    if body.get("stream"):
        return answer
    (raw,) = answer.chunks
    assert isinstance(raw, bytes)
    whole = json.loads(raw)
    out = body["max_tokens"] // 2
    openai = {"prompt_tokens": 3, "completion_tokens": out, "total_tokens": 3 + out}
    whole["usage"] = openai if "choices" in whole else {"input_tokens": 3, "output_tokens": out}
    return Answer(chunks=[json.dumps(whole).encode()])


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    with Upstream(metered) as upstream:
        yield upstream


@pytest.fixture(scope="module", params=["file", "redis"])
def gateway(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, upstream: Upstream
) -> Iterator[Gateway]:
    sections = dict(SECTIONS)
    if request.param == "redis":
        server: RedisServer = request.getfixturevalue("redis")
        server.command("FLUSHALL")
        sections["state"] = {"redis_url": server.url, "timeout": "1s"}  # this machine is shared
    with running(tmp_path_factory.mktemp("budgets"), two_providers(upstream, **sections)) as gateway:
        yield gateway


def ask(gateway: Gateway, name: str, path: str = CHAT, **more: Any) -> httpx.Response:
    headers = {name: more.pop(name) for name in [n for n in more if n.startswith("x_")]}
    body = {"model": "gpt-small", "messages": HI, "max_tokens": 5, **more}
    return gateway.post(path, body, authorization=f"Bearer sk-{name}-0123456789", **headers)


def code(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


def test_a_budget_that_cannot_hold_a_request_refuses_it_until_midnight(gateway: Gateway, upstream: Upstream) -> None:
    before = len(upstream.received)
    answer = ask(gateway, "poor")
    assert code(answer) == (429, "budget_exceeded")
    assert answer.json()["error"]["type"] == "rate_limit_error"
    assert "daily budget of key poor is $0.000001" in answer.json()["error"]["message"]
    assert 0 < int(answer.headers["retry-after"]) <= 86400
    assert answer.headers["x-should-retry"] == "false"
    there = ask(gateway, "poor", MESSAGES)
    assert there.status_code == 429
    assert there.json()["error"]["type"] == "rate_limit_error"
    assert len(upstream.received) == before
    row = gateway.row(answer.headers["x-request-id"])
    assert (row.outcome, row.error, row.key_name, row.cost_nano) == ("refused", "budget_exceeded", "poor", None)


def test_a_downgrade_takes_what_fits_and_says_so(gateway: Gateway) -> None:
    """$0.001 a month. 20 tokens of gpt-large's are $0.0008, of gpt-small's $0.00004."""
    first = ask(gateway, "frugal", model="gpt-large", max_tokens=18)
    assert (first.status_code, first.headers["x-aion-model"]) == (200, "gpt-large")
    gateway.row(first.headers["x-request-id"])
    second = ask(gateway, "frugal", model="gpt-large", max_tokens=20)
    assert second.status_code == 200
    assert second.headers["x-aion-model"] == "gpt-mid"  # the best that fits
    assert "downgraded by the monthly budget of key frugal" in second.headers["x-aion-reason"]
    assert gateway.row(second.headers["x-request-id"]).asked_model == "gpt-large"
    third = ask(gateway, "frugal", model="gpt-large", max_tokens=100_000)  # $0.2 at the cheapest
    assert code(third) == (429, "budget_exceeded")
    assert int(third.headers["retry-after"]) > 0


def test_a_key_may_use_its_models_and_tiers_only(gateway: Gateway) -> None:
    assert ask(gateway, "strict").status_code == 200
    assert code(ask(gateway, "strict", model="claude-small")) == (403, "model_not_allowed")
    assert code(ask(gateway, "strict", model="gpt-large")) == (403, "model_not_allowed")
    assert code(ask(gateway, "strict", model="aion-escalate")) == (403, "model_not_allowed")
    there = ask(gateway, "strict", MESSAGES, model="claude-small")
    assert (there.status_code, there.json()["error"]["type"]) == (403, "permission_error")
    hard = "Prove that every finite group of odd order is solvable, step by step, with all lemmas." * 20
    auto = ask(gateway, "strict", model="aion-auto", messages=[{"role": "user", "content": hard}])
    assert auto.headers["x-aion-model"] in ("gpt-small", "gpt-mid")


def test_an_expired_key_and_an_unknown_one_are_nobodys(gateway: Gateway) -> None:
    assert code(ask(gateway, "past")) == (401, "invalid_api_key")
    assert code(ask(gateway, "nobody")) == (401, "invalid_api_key")


def test_requests_a_minute(gateway: Gateway) -> None:
    answers = [ask(gateway, "slow") for _ in range(4)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    assert answers[0].headers["x-ratelimit-limit-requests"] == "3"
    assert [answer.headers["x-ratelimit-remaining-requests"] for answer in answers[:3]] == ["2", "1", "0"]
    assert answers[0].headers["x-ratelimit-limit-tokens"] == "100000"
    denied = answers[3]
    assert code(denied) == (429, "rate_limit_exceeded")
    assert denied.headers["x-ratelimit-remaining-requests"] == "0"
    # One comes back every 20 seconds; what the three took is part of that.
    assert 15 <= int(denied.headers["retry-after"]) <= 20
    assert 15000 <= int(denied.headers["retry-after-ms"]) <= 20000
    assert "x-ratelimit-limit-requests" not in ask(gateway, "free").headers


def test_requests_at_a_time(gateway: Gateway, upstream: Upstream) -> None:
    go_on = threading.Event()

    def held(_: Received) -> Answer:
        return Answer(content_type="text/event-stream", chunks=(CHAT_EVENTS[0], go_on, *CHAT_EVENTS[1:]))

    upstream.answer = held
    try:
        open_one = httpx.Client(timeout=20)
        body = {"model": "gpt-small", "messages": HI, "stream": True}
        authorization = {"authorization": "Bearer sk-narrow-0123456789"}
        with open_one.stream("POST", gateway.url + CHAT, json=body, headers=authorization) as answer:
            assert answer.status_code == 200
            upstream.answer = metered
            denied = ask(gateway, "narrow")
            assert code(denied) == (429, "rate_limit_exceeded")
            assert denied.headers["retry-after"] == "1"
            go_on.set()
            answer.read()
    finally:
        upstream.answer = metered
        go_on.set()
    assert wait_for(lambda: ask(gateway, "narrow").status_code == 200)


def test_only_a_trusted_key_speaks_for_a_tenant(gateway: Gateway, upstream: Upstream) -> None:
    said = {"x_tenant_id": "acme", "x_aion_tags": "b,a", "x_aion_service": "nightly"}
    plain = ask(gateway, "free", **said)
    row = gateway.row(plain.headers["x-request-id"])
    assert (row.tenant, row.service, row.tags) == ("", "", "")
    assert code(ask(gateway, "trusted", x_tenant_id="broke")) == (429, "budget_exceeded")
    assert code(ask(gateway, "trusted", x_aion_service="nightly")) == (429, "budget_exceeded")
    other = ask(gateway, "trusted", x_tenant_id="other", x_aion_tags="b,a", x_aion_service="daily")
    row = gateway.row(other.headers["x-request-id"])
    assert (row.tenant, row.service, row.tags) == ("other", "daily", "a,b,from-key")
    assert upstream.last.header("authorization") == "Bearer sk-secret-openai-1234567890"
    assert upstream.last.header("x-aion-tags") is None
    assert code(ask(gateway, "trusted", x_tenant_id="a/b")) == (400, "invalid_header")


def test_a_tenants_own_provider_key_is_used_and_nobody_elses(gateway: Gateway, upstream: Upstream) -> None:
    for tenant, sent in (("acme", "Bearer sk-of-acme-12345678"), ("other", "Bearer sk-secret-openai-1234567890")):
        assert ask(gateway, "trusted", x_tenant_id=tenant).status_code == 200
        assert upstream.last.header("authorization") == sent
    assert ask(gateway, "trusted", MESSAGES, model="claude-small", x_tenant_id="acme").status_code == 200
    assert upstream.last.header("x-api-key") == "sk-ant-secret-1234567890"


def test_no_secret_is_anywhere(gateway: Gateway, tmp_path: Path) -> None:
    secrets = [entry["key"] for entry in KEYS] + ["sk-of-acme-12345678", "redis-secret-4711"]
    shown = [gateway.log, gateway.metrics(), gateway.envoy_admin("config_dump")]
    shown += [file.read_bytes().decode("latin-1") for file in gateway.run_dir.rglob("*") if file.is_file()]
    shown += [json.dumps(str(row)) for row in gateway.rows()]
    for secret in secrets:
        assert not any(secret in text for text in shown), secret[:8]
