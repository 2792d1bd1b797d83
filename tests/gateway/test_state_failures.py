"""What budgets and limits do when the shared state is away, slow, empty or new."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.gateway.test_budgets import ask, code, key, metered
from tests.support.configs import two_providers
from tests.support.gateway import Gateway, running, wait_for
from tests.support.redis import RedisServer, redis_server
from tests.support.upstream import Upstream

# A request of 1,000 tokens at gpt-mid is held at $0.008 and costs half of that.
KEYS = [
    key("budget", budget={"daily_limit_usd": "0.02"}),
    key("limit", limits={"requests_per_minute": 1_000_000}),
    key("free"),
]


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    with redis_server(tmp_path / "redis") as server:
        yield server


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with Upstream(metered) as upstream:
        yield upstream


def config(upstream: Upstream, **state: Any) -> dict[str, Any]:
    return two_providers(upstream, auth={"keys": KEYS}, gateway={"workers": 2}, state=state)


def large(gateway: Gateway, name: str = "budget") -> httpx.Response:
    return ask(gateway, name, model="gpt-mid", max_tokens=1000)


def failures(gateway: Gateway, **labels: str) -> float:
    """Of calls to the shared state, with these labels."""
    found = re.findall(r"^aion_state_failures_total\{(.*)\} (\S+)$", gateway.metrics(), re.MULTILINE)
    wanted = {f'{name}="{value}"' for name, value in labels.items()}
    return sum(float(value) for text, value in found if wanted <= set(text.split(",")))


def settled(gateway: Gateway, answer: httpx.Response) -> None:
    gateway.row(answer.headers["x-request-id"])


def test_a_killed_redis_closes_budgets_and_opens_limits_and_comes_back_with_what_was_spent(
    redis: RedisServer, upstream: Upstream, tmp_path: Path
) -> None:
    with running(tmp_path, config(upstream, redis_url=redis.url)) as gateway:
        first = large(gateway)
        assert first.status_code == 200
        settled(gateway, first)
        redis.kill()
        answer = large(gateway)
        assert code(answer) == (503, "limits_unavailable")
        assert answer.headers["retry-after"] == "1"
        assert ask(gateway, "limit").status_code == 200
        assert ask(gateway, "free").status_code == 200
        wait_for(lambda: failures(gateway, call="reserve", outcome="closed") == 1)
        assert failures(gateway, call="reserve", outcome="open") == 1
        # It comes back and knows nothing; the ledger does.
        redis.start()
        answers = [wait_for(lambda: found if (found := large(gateway)).status_code != 503 else None)]
        assert answers[0].status_code == 200
        answers += [large(gateway) for _ in range(20)]
        served = [one for one in answers if one.status_code == 200]
        for one in served:
            settled(gateway, one)
        # A request is held at $0.008 and costs half of it, so that three fit, or two when one is settled late.
        spent = sum(row.cost_nano or 0 for row in gateway.rows() if row.key_name == "budget")
        assert 8_000_000 < spent <= 20_000_000
        wait_for(lambda: large(gateway).status_code == 429 or None)


@pytest.mark.parametrize("timeout", ["50ms", "700ms"])
def test_a_redis_that_stands_still_holds_nobody_up(
    redis: RedisServer, upstream: Upstream, tmp_path: Path, timeout: str
) -> None:
    with running(tmp_path, config(upstream, redis_url=redis.url, timeout=timeout)) as gateway:
        assert ask(gateway, "limit").status_code == 200
        redis.stand_still()
        start = time.monotonic()
        assert code(large(gateway)) == (503, "limits_unavailable")
        assert ask(gateway, "limit").status_code == 200
        # Two such times, and much play for a busy machine: what is bounded is not a minute.
        assert time.monotonic() - start < 5
        wait_for(lambda: failures(gateway, call="reserve", reason="timeout") >= 1)
        redis.go_on()
        # What it was asked meanwhile it grants now, to nobody: that is released again.
        wait_for(lambda: large(gateway).status_code == 200)
        wait_for(lambda: reserved(redis) == 0)


def reserved(redis: RedisServer) -> int:
    accounts = redis.command("KEYS", "{aion}:a:key:budget:*").split()
    return sum(int(redis.command("HGET", account, "r").strip() or 0) for account in accounts)


def test_a_redis_that_forgets_its_scripts_is_told_them_again(
    redis: RedisServer, upstream: Upstream, tmp_path: Path
) -> None:
    with running(tmp_path, config(upstream, redis_url=redis.url)) as gateway:
        assert ask(gateway, "budget").status_code == 200
        redis.command("SCRIPT", "FLUSH")
        assert [ask(gateway, "budget").status_code for _ in range(4)] == [200] * 4
        assert failures(gateway, call="reserve") == 0


def test_the_choice_is_the_users(redis: RedisServer, upstream: Upstream, tmp_path: Path) -> None:
    choice = {"budgets_fail": "open", "limits_fail": "closed"}
    with running(tmp_path, config(upstream, redis_url=redis.url, **choice)) as gateway:
        redis.kill()
        wait_for(lambda: ask(gateway, "limit").status_code == 503)
        assert large(gateway).status_code == 200


def test_a_gateway_starts_without_its_redis(redis: RedisServer, upstream: Upstream, tmp_path: Path) -> None:
    redis.kill()
    with running(tmp_path, config(upstream, redis_url=redis.url)) as gateway:
        assert ask(gateway, "limit").status_code == 200
        assert code(large(gateway)) == (503, "limits_unavailable")
        redis.start()
        wait_for(lambda: large(gateway).status_code == 200)


def test_a_new_start_knows_what_was_spent(upstream: Upstream, tmp_path: Path) -> None:
    for _ in range(2):
        with running(tmp_path, config(upstream)) as gateway:
            served = [one for one in (large(gateway) for _ in range(2)) if one.status_code == 200]
            for one in served:
                settled(gateway, one)
    with running(tmp_path, config(upstream)) as gateway:
        spent = sum(row.cost_nano or 0 for row in gateway.rows() if row.key_name == "budget")
        assert spent == 3 * 4_006_000  # each of three tokens in and 500 out; a fourth one would be held at $0.008
        assert code(large(gateway)) == (429, "budget_exceeded")


def test_two_gateways_share_one_budget(redis: RedisServer, upstream: Upstream, tmp_path: Path) -> None:
    shared = config(upstream, redis_url=redis.url)
    shared["telemetry"] = {"db_path": str(tmp_path / "aion.db"), "flush_interval": "100ms"}
    with running(tmp_path / "one", shared) as one, running(tmp_path / "two", shared) as two:
        served = 0
        while served < 10:
            answers = [large(one), large(two)]
            served += sum(answer.status_code == 200 for answer in answers)
            if {answer.status_code for answer in answers} == {429}:
                break
        assert 2 <= served <= 4
