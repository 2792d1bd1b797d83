"""What a failed attempt costs: `python -m benchmarks.failover [--seconds S] [--rounds N] [--json PATH]`.

Two measurements against the whole product and one upstream that fails where it is told to:

1. One connection. Every sixth request has its first model answer 503 (seldom enough that the model stays in favour);
   its latency stands against that of the requests between. What is added is a whole attempt: the failed answer, Envoy's
   back-off (about a millisecond), the request written anew for the next model.
2. Many connections, none of the upstream's answers failing and then a third of them, in turn. Models drop out and come
   back as they would; counted is what the clients got.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import uvloop
from rich.console import Console
from rich.table import Table

from benchmarks.kinds import KINDS
from benchmarks.load import Client
from benchmarks.sides import product, upstream

CASES = {"JSON": "chat", "stream": "stream", "Anthropic JSON": "message"}
FIRST = {"chat": "fast-1", "stream": "fast-1", "message": "wise-1"}
EVERY = 6
CONNECTIONS = 16


@dataclass(slots=True)
class Seen:
    """Latencies in seconds; `statuses` of all answers."""

    plain: list[float] = field(default_factory=list)
    failed_first: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    seconds: float = 0.0


async def one_by_one(port: int, kind_name: str, seconds: float) -> Seen:
    """One connection; every sixth request has its first attempt fail."""
    kind, seen, client = KINDS[kind_name], Seen(), Client("127.0.0.1", port)
    fail = f"x-bench-fail: {FIRST[kind_name]}\r\n"
    end, number = perf_counter() + seconds, 0
    while perf_counter() < end:
        number += 1
        fails = number % EVERY == 0
        # A trivial request, so that it is the first tier's first model that fails.
        answer = await client.post(kind.path, trivial(kind_name, number), fail if fails else "")
        seen.statuses[answer.status] += 1
        attempts = answer.headers.get("x-aion-attempts")
        if attempts == ("2" if fails else "1"):
            (seen.failed_first if fails else seen.plain).append(answer.seconds)
    client.close()
    return seen


def trivial(kind_name: str, number: int) -> bytes:
    body: dict[str, Any] = {"model": "aion-auto", "messages": [{"role": "user", "content": f"hello {number}"}]}
    return json.dumps(body | {"max_tokens": 50} | ({"stream": True} if "stream" in kind_name else {})).encode()


async def all_at_once(port: int, kind_name: str, seconds: float, headers: str) -> Seen:
    kind, seen = KINDS[kind_name], Seen()
    end, numbers = perf_counter() + seconds, iter(range(1 << 40))

    async def one() -> None:
        client = Client("127.0.0.1", port)
        while perf_counter() < end:
            answer = await client.post(kind.path, kind.body(next(numbers)), headers)
            seen.statuses[answer.status] += 1
            seen.plain.append(answer.seconds)
        client.close()

    start = perf_counter()
    await asyncio.gather(*(one() for _ in range(CONNECTIONS)))
    seen.seconds = perf_counter() - start
    return seen


def measure(seconds: float, rounds: int, progress: Console) -> dict[str, Any]:
    """Times in milliseconds; the figures of all rounds."""
    added: dict[str, list[dict[str, Any]]] = {name: [] for name in CASES}
    load: dict[str, list[dict[str, Any]]] = {name: [] for name in CASES}
    for number in range(1, rounds + 1):
        for name, kind in CASES.items():
            progress.print(f"round {number} of {rounds}: {name}")
            with gateway() as port:
                seen = uvloop.run(one_by_one(port, kind, seconds))
                plain, failed = median(seen.plain) * 1000, median(seen.failed_first) * 1000
                added[name].append({"plain_ms": plain, "failed_first_ms": failed, "statuses": seen.statuses})
                well = uvloop.run(all_at_once(port, kind, seconds, ""))
                ill = uvloop.run(all_at_once(port, kind, seconds, "x-bench-fail: third\r\n"))
                load[name].append({"none_failing": rates(well), "third_failing": rates(ill)})
    return {"seconds": seconds, "rounds": rounds, "added": added, "load": load}


@contextlib.contextmanager
def gateway() -> Iterator[int]:
    """A fresh one for each case: what failed is remembered."""
    with tempfile.TemporaryDirectory(prefix="aion-bench-") as name:
        directory = Path(name)
        with upstream(directory) as (port, _), product(directory / "product", port, "exact") as side:
            yield side.port


def rates(seen: Seen) -> dict[str, Any]:
    total = seen.statuses.total()
    return {"per_second": total / seen.seconds, "ok_share": seen.statuses[200] / total, "statuses": seen.statuses}


def show(report: dict[str, Any], out: Console) -> None:
    table = Table("case", "p50 ms", "first attempt failed: p50 ms", "added ms", box=None)
    for name, rounds in report["added"].items():
        added = [one["failed_first_ms"] - one["plain_ms"] for one in rounds]
        plain, failed = median(one["plain_ms"] for one in rounds), median(one["failed_first_ms"] for one in rounds)
        spread = f"{median(added):.2f} ({min(added):.2f} to {max(added):.2f})"
        table.add_row(name, f"{plain:.2f}", f"{failed:.2f}", spread)
    out.print(table)
    out.print()
    table = Table("case", "none failing /s", "a third failing /s", "ratio", "clients served", box=None)
    for name, rounds in report["load"].items():
        well = [one["none_failing"]["per_second"] for one in rounds]
        ill = [one["third_failing"]["per_second"] for one in rounds]
        ratio = median(b / a for a, b in zip(well, ill, strict=True))
        share = median(one["third_failing"]["ok_share"] for one in rounds)
        table.add_row(name, f"{median(well):.0f}", f"{median(ill):.0f}", f"{ratio:.2f}", f"{share:.2%}")
    out.print(table)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.failover")
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    report = measure(options.seconds, options.rounds, Console(stderr=True))
    show(report, Console())
    if options.json:
        options.json.write_text(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
