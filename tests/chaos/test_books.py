"""Workers, Redis and PostgreSQL are killed under load, one after the other; then all books are the same to the
nano-dollar: what the providers counted, the ledger's rows, its sums by the hour, and the accounts in Redis.

AION_CHURN_SECONDS makes it longer.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from aion_extproc.accounting.row import LedgerRow
from aion_extproc.stores.ledger import Ledger
from tests.chaos.test_churn import LIMITS, SECONDS, check, more_than, processes, recovered
from tests.support.churn import Clients, Providers
from tests.support.configs import two_providers
from tests.support.gateway import Gateway, running, wait_for
from tests.support.postgres import Postgres
from tests.support.redis import RedisServer, redis_server
from tests.support.upstream import Upstream

KEYS = {
    "sk-ann-0123456789": {"name": "ann", "tenant": "red", "budget": {"daily_limit_usd": 1000}},
    "sk-bob-0123456789": {"name": "bob", "tenant": "blue", "limits": {"requests_per_minute": 10**6}},
    "sk-eve-0123456789": {"name": "eve", "tenant": "blue", "limits": {"concurrent_requests": 1000}},
}
TENANT = {"budget": {"monthly_limit_usd": 1000}}


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    with redis_server(tmp_path / "redis") as server:
        yield server


@pytest.fixture
def database(postgres_server: Postgres) -> Iterator[str]:
    with postgres_server.database() as url:
        yield url


@pytest.fixture
def providers() -> Providers:
    return Providers(seed=5, ill=0.0)


@pytest.fixture
def gateway(providers: Providers, redis: RedisServer, database: str, tmp_path: Path) -> Iterator[Gateway]:
    with Upstream(providers) as upstream:
        config = two_providers(
            upstream,
            gateway=LIMITS,
            auth={"keys": [{"key": key, **rules} for key, rules in KEYS.items()]},
            tenants={"red": TENANT, "blue": TENANT},
            # Without Redis nothing is refused: what is spent meanwhile must be found all the same.
            state={"redis_url": redis.url, "budgets_fail": "open"},
            telemetry={"db_url": database, "flush_interval": "100ms", "spool_dir": str(tmp_path / "spool")},
        )
        with running(tmp_path, config, None, "--workers", "4") as gateway:
            yield gateway


def test_the_books_agree_whoever_is_killed(
    gateway: Gateway, providers: Providers, redis: RedisServer, postgres_server: Postgres
) -> None:
    dice = random.Random(3)

    def kill_a_worker() -> None:
        os.kill(dice.choice(processes(gateway)["worker"]), signal.SIGKILL)

    def kill_redis() -> None:
        redis.kill()
        wait_for(partial(more_than, clients, len(clients.seen) + 50), 30)
        redis.start()

    def kill_postgres() -> None:
        postgres_server.kill()
        wait_for(partial(more_than, clients, len(clients.seen) + 50), 30)
        postgres_server.start()

    def kill_the_ledgers_process() -> None:
        os.kill(processes(gateway)["ledger"][0], signal.SIGKILL)

    harms = [kill_a_worker, kill_redis, kill_postgres, kill_the_ledgers_process, kill_redis]
    end = time.monotonic() + SECONDS
    with Clients(gateway, keys=list(KEYS)) as clients:
        wait_for(lambda: len(clients.seen) > 100)
        for number in range(100_000):
            if number >= len(harms) and time.monotonic() > end:
                break
            harms[number % len(harms)]()
            wait_for(partial(more_than, clients, len(clients.seen) + 100), 30)
            wait_for(partial(recovered, gateway, clients, len(clients.seen), 4), 60)
    rows = check(gateway, clients, providers, workers_die=True)
    statuses = Counter(seen.status for seen in clients.seen)
    assert statuses[200] > 0.9 * len(clients.seen), statuses
    agree(gateway, redis, rows)


def agree(gateway: Gateway, redis: RedisServer, rows: list[LedgerRow]) -> None:
    """The rows have been compared with the providers' own books."""
    expected: Counter[str] = Counter()
    for row in rows:
        day = time.strftime("%Y%m%d", time.gmtime(row.at_ms / 1000))
        for scope, name in (("key", row.key_name), ("tenant", row.tenant)):
            expected[f"{scope}:{name}:{day}"] += row.cost_nano or 0
            expected[f"{scope}:{name}:{day[:6]}"] += row.cost_nano or 0
    assert sum(expected.values()) > 0

    def accounts() -> dict[str, tuple[int, int]]:
        names = redis.command("KEYS", "{aion}:a:*").split()
        return {
            name.removeprefix("{aion}:a:"): (
                int(redis.command("HGET", name, "s").strip() or 0),
                int(redis.command("HGET", name, "r").strip() or 0),
            )
            for name in names
        }

    wanted = {name: (cost, 0) for name, cost in expected.items() if cost}
    found: dict[str, tuple[int, int]] = {}

    def balanced() -> bool:
        nonlocal found
        found = {name: both for name, both in accounts().items() if any(both)}
        return found == wanted

    try:
        wait_for(balanced, 10)
    except AssertionError:
        assert found == wanted
    assert redis.command("ZCARD", "{aion}:x").strip() == "0"  # nothing is held
    assert not redis.command("KEYS", "{aion}:s:*").split()  # nobody is open
    ledger = Ledger(gateway.target)
    first, last = min(row.at_ms for row in rows), max(row.at_ms for row in rows)
    hour = 3_600_000
    sums = ledger.costs(first // hour * hour, (last // hour + 1) * hour)
    ledger.close()
    assert sums.cost_nano == sum(row.cost_nano or 0 for row in rows)
    assert sums.requests == sum(1 for row in rows if row.provider)
