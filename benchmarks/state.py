"""What keys, budgets and limits cost: `python -m benchmarks.state [--requests N] [--seconds S] [--rounds N]
[--json PATH]`.

1. In one process, without Envoy: the request exchange of a caller with a key, budgets of a day and a month and limits
   of requests, tokens and concurrency, for the key alone (5 counters) and for key and tenant (10), next to that of an
   open gateway; the state in the mapped file. What is added is the difference of the two medians (and of the two 99th
   percentiles).
2. The same hold asked of a real Redis, next to a PING on the same connection: what is added to one round trip.
3. Through the whole product, one connection: an open gateway, one with all this in the file, one with it in Redis, in
   turn.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import orjson
import uvloop
from rich.console import Console
from rich.table import Table

from aion_extproc.accounting.holds import Hold, Settlement, Verdict
from aion_extproc.extproc.policy import Policy
from aion_extproc.extproc.replies import Proceed, Refuse, Reserve
from aion_extproc.extproc.request_exchange import RequestExchange
from aion_extproc.stores.redis_link import RedisLink
from aion_extproc.stores.state import Failure, Seed
from aion_extproc.stores.state_local import LocalState
from aion_extproc.stores.state_redis import RedisState
from benchmarks.load import Client
from benchmarks.sides import configuration, upstream
from tests.support.exchanges import headers, policy
from tests.support.gateway import running
from tests.support.redis import RedisServer, redis_server

KEY = "sk-benchmark-0123456789"
BUDGET = {"daily_limit_usd": 900_000, "monthly_limit_usd": 900_000}
LIMITS = {"requests_per_minute": 10**9, "tokens_per_minute": 10**9, "concurrent_requests": 10**6}
OWN: dict[str, Any] = {"auth": {"keys": [{"key": KEY, "name": "dev", "budget": BUDGET, "limits": LIMITS}]}}
ACCESS: dict[str, Any] = {
    "auth": {"keys": [{"key": KEY, "name": "dev", "tenant": "acme", "budget": BUDGET, "limits": LIMITS}]},
    "tenants": {"acme": {"budget": BUDGET, "limits": LIMITS}},
}
_WARM_UP = 300


def percentile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def figures(values: list[float]) -> dict[str, float]:
    """Microseconds."""
    return {"p50": median(values) * 1e6, "p99": percentile(values, 0.99) * 1e6}


def hold_of_a_request(found: Policy, number: int) -> Hold:
    script = exchange(found)
    script.headers(request_headers(number), False)
    reply = script.body(request_body(number), True)
    assert isinstance(reply, Reserve)
    return reply.hold


def exchange(found: Policy) -> RequestExchange:
    return RequestExchange(found, time.monotonic, time.time, lambda _: None)


def request_headers(number: int) -> dict[str, str]:
    return headers(authorization=f"Bearer {KEY}") | {"x-request-id": f"{number:08d}-aaaa-bbbb-cccc-0123456789ab"}


def request_body(number: int) -> bytes:
    text = f"Write a short and friendly letter to customer {number} whose parcel was lost. " * 4
    return orjson.dumps(
        {"model": "aion-auto", "max_tokens": 500, "messages": [{"role": "user", "content": text}]}
    )


def in_process(requests: int, directory: Path) -> dict[str, dict[str, float]]:
    state = LocalState(directory / "state", 3600)
    asyncio.run(state.seed(lambda: Seed({}, [])))
    rules = {"open": policy(), "key": policy(**OWN), "key and tenant": policy(**ACCESS)}
    settled: list[object] = []

    def decide(found: Policy, number: int) -> float:
        sent, raw = request_headers(number), request_body(number)
        script = exchange(found)
        replies: list[Proceed | Refuse | Reserve | None] = []

        def told(verdict: Verdict | Failure) -> None:
            replies.append(script.reserved(verdict))

        start = perf_counter()
        script.headers(sent, False)
        reply = script.body(raw, True)
        if isinstance(reply, Reserve):
            state.reserve(reply.hold, told)
            reply = replies[0]
        seconds = perf_counter() - start
        assert isinstance(reply, Proceed), reply
        return seconds

    found: dict[str, list[float]] = {name: [] for name in rules}
    for number in range(requests + _WARM_UP):
        for name, one in rules.items():
            seconds = decide(one, number)
            if number >= _WARM_UP:
                found[name].append(seconds)
        # What the ledger's process does meanwhile, so that the file is as it would be.
        id = request_headers(number)["x-request-id"]
        state.settle([Settlement(id, (("key:dev:20261122", 9),), 9)], settled.append)
    state.close()
    result = {name: figures(values) for name, values in found.items()}
    for name in ("key", "key and tenant"):
        result[f"{name}: added"] = {share: result[name][share] - result["open"][share] for share in ("p50", "p99")}
    return result


async def against_redis(requests: int, server: RedisServer) -> dict[str, dict[str, float]]:
    state = RedisState(server.url, 2, 3600)
    state.open()
    ping = RedisLink(server.url, 2)
    ping.open()
    assert await state.connected(10)
    assert await ping.connected(10)
    await state.seed(lambda: Seed({}, []))
    limited = policy(**ACCESS)
    holds = [hold_of_a_request(limited, number) for number in range(requests + _WARM_UP)]

    async def timed(ask: Callable[[Callable[[Any], None]], None]) -> float:
        done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        start = perf_counter()
        ask(lambda answer: done.set_result((perf_counter(), answer)))
        at, answer = await done
        assert answer not in ("timeout", "unreachable", "unseeded"), answer
        return float(at - start)

    found: dict[str, list[float]] = {"ping": [], "hold": []}
    for number, hold in enumerate(holds):
        pinged = await timed(lambda then: ping.ask(("PING",), then))
        held = await timed(lambda then, hold=hold: state.reserve(hold, then))  # type: ignore[misc]
        if number >= _WARM_UP:
            found["ping"].append(pinged)
            found["hold"].append(held)
    state.close()
    ping.close()
    result = {name: figures(values) for name, values in found.items()}
    result["added"] = {share: result["hold"][share] - result["ping"][share] for share in ("p50", "p99")}
    return result


@contextlib.contextmanager
def products(directory: Path, upstream_port: int, server: RedisServer) -> Iterator[dict[str, int]]:
    """The port of each."""
    sections: dict[str, dict[str, Any]] = {
        "open": {},
        "file": ACCESS,
        "redis": {**ACCESS, "state": {"redis_url": server.url}},
    }
    server.command("FLUSHALL")
    with contextlib.ExitStack() as stack:
        ports = {}
        for name, more in sections.items():
            place = directory / f"product-{name}"
            place.mkdir()
            config = configuration(upstream_port, "exact", place) | more
            ports[name] = stack.enter_context(running(place, config)).port
        yield ports


async def through_envoy(ports: dict[str, int], seconds: float, rounds: int) -> dict[str, dict[str, float]]:
    found: dict[str, list[float]] = {name: [] for name in ports}
    clients = {name: Client("127.0.0.1", port) for name, port in ports.items()}
    said = f"authorization: Bearer {KEY}\r\n"
    number = 0
    for round_ in range(rounds + 1):
        for name, client in clients.items():
            end = perf_counter() + (seconds if round_ else 0.3)
            while perf_counter() < end:
                number += 1
                answer = await client.post("/v1/chat/completions", request_body(number), said)
                assert answer.status == 200, answer
                if round_:
                    found[name].append(answer.seconds)
    for client in clients.values():
        client.close()
    result = {name: figures(values) for name, values in found.items()}
    for name in ("file", "redis"):
        result[f"{name} added"] = {share: result[name][share] - result["open"][share] for share in ("p50", "p99")}
    return result


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--requests", type=int, default=5000)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    result: dict[str, dict[str, dict[str, float]]] = {}
    with tempfile.TemporaryDirectory() as name, redis_server(Path(name) / "redis") as server:
        directory = Path(name)
        result["in process, file"] = in_process(options.requests, directory)
        result["Redis"] = uvloop.run(against_redis(options.requests, server))
        with upstream(directory) as (port, _), products(directory, port, server) as ports:
            result["through Envoy"] = uvloop.run(through_envoy(ports, options.seconds, options.rounds))
    table = Table("measured", "what", "p50 µs", "p99 µs", box=None)
    for part, lines in result.items():
        for what, line in lines.items():
            table.add_row(part, what, f"{line['p50']:.1f}", f"{line['p99']:.1f}")
    Console().print(table)
    if options.json:
        options.json.write_text(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
