"""A thousand requests at once against one budget, 8 workers: as many are granted as fit, and no more."""

from __future__ import annotations

import asyncio
import json
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.load import Client
from tests.gateway.test_budgets import key, metered
from tests.support.configs import two_providers
from tests.support.gateway import Gateway, running, wait_for
from tests.support.redis import redis_server
from tests.support.upstream import Answer, Received, Upstream

REQUESTS = 1000
LIMIT_NANO = 10_000_000
KEY = key("crowd", budget={"daily_limit_usd": "0.01"}, limits={"tokens_per_minute": 10**9})
BODY = json.dumps({"model": "gpt-mid", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 40}).encode()
# Three tokens in and half of what is allowed out, at $2 and $8 a million. Estimated are six tokens and a third of six,
# at the price of one-hour cache writes, and all that is allowed.
COST, ESTIMATE = 3 * 2_000 + 20 * 8_000, 8 * 4_000 + 40 * 8_000


class Holding:
    """Answers nobody before `go_on`."""

    def __init__(self) -> None:
        self.go_on = threading.Event()

    def __call__(self, request: Received) -> Answer:
        answer = metered(request)
        (whole,) = answer.chunks
        return Answer(chunks=[self.go_on, whole])


@pytest.fixture(params=["file", "redis"])
def gateway(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Gateway, Holding]]:
    holding = Holding()
    with redis_server(tmp_path / "redis") as redis, Upstream(holding) as upstream:
        state = {"redis_url": redis.url, "timeout": "5s"} if request.param == "redis" else {}
        config = two_providers(upstream, auth={"keys": [KEY]}, gateway={"workers": 8}, state=state)
        with running(tmp_path / "gateway", config) as gateway:
            yield gateway, holding


def test_as_many_are_granted_as_fit(gateway: tuple[Gateway, Holding]) -> None:
    served, holding = gateway
    fits = LIMIT_NANO // ESTIMATE
    statuses = asyncio.run(ask_all(served.port, fits, holding))
    assert statuses == Counter({200: fits, 429: REQUESTS - fits})
    wait_for(lambda: len(served.rows()) == REQUESTS)
    assert sum(row.cost_nano or 0 for row in served.rows()) == fits * COST
    # What the estimates had too much is there again: another lot fits, down to the last one.
    spent = fits * COST
    while spent + ESTIMATE <= LIMIT_NANO:
        fits = (LIMIT_NANO - spent) // ESTIMATE
        assert asyncio.run(ask_all(served.port, fits, holding, 2 * fits))[200] == fits
        spent += fits * COST
        wait_for(lambda: sum(row.cost_nano or 0 for row in served.rows()) == spent)  # noqa: B023
        wait_for(lambda: served.envoy_stat("http.aion_public.downstream_rq_active") == 0)
    assert asyncio.run(ask_all(served.port, 0, holding, 10)) == Counter({429: 10})
    assert LIMIT_NANO - ESTIMATE < spent <= LIMIT_NANO


async def ask_all(port: int, fits: int, holding: Holding, requests: int = REQUESTS) -> Counter[int]:
    """All at once; nobody is answered before all others have been refused."""
    holding.go_on.clear()
    statuses: Counter[int] = Counter()
    refused = asyncio.Event()
    clients = [Client("127.0.0.1", port) for _ in range(requests)]

    async def one(client: Client) -> None:
        answer = await client.post("/v1/chat/completions", BODY, f"authorization: Bearer {KEY['key']}\r\n")
        statuses[answer.status] += 1
        if sum(statuses.values()) >= requests - fits:
            refused.set()

    tasks = [asyncio.create_task(one(client)) for client in clients]
    async with asyncio.timeout(60):
        await refused.wait()
    holding.go_on.set()
    async with asyncio.timeout(60):
        await asyncio.gather(*tasks)
    for client in clients:
        client.close()
    return statuses
