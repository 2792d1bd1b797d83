"""What the gateway costs: `python -m benchmarks.overhead [--seconds S] [--rounds N] [--json PATH] [--only TEXT]`.

Envoy alone, Envoy with a do-nothing ext_proc server on the same stack, and the whole product, in turn, against one
fast upstream. benchmarks/README.md says how to read what it prints.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import os
import platform
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from aion_extproc.gateway.spec import RESPONSE_PROCESS, RESPONSE_STRIP_USAGE
from benchmarks.kinds import KINDS
from benchmarks.sides import Side, envoy, product, upstream

CONNECTIONS = (1, 32)
THROUGHPUT_GOAL = 0.75  # product / do-nothing
LATENCY_GOAL = 2.0  # added p50 of the product / of the do-nothing server, one connection
RSS_GOAL_MB = 120
ALONE, NOOP, NOOP_UNTOUCHED, PRODUCT = "Envoy alone", "do-nothing", "do-nothing, untouched", "product"

Cells = dict[tuple[str, int, str], list[dict[str, Any]]]  # (case, connections, side) → one result a round


@dataclass(frozen=True, slots=True)
class Case:
    """A kind of request, the gateway that the product serves it with, and the way of its answer (x-aion-response)."""

    name: str
    kind: str
    json_cost: str
    way: str


CASES = (
    Case("JSON, exact cost", "chat", "exact", RESPONSE_PROCESS),
    Case("JSON, estimated cost", "chat", "estimate", ""),
    Case("stream, usage asked for", "stream_usage", "exact", ""),
    Case("stream, usage taken out", "stream", "exact", RESPONSE_STRIP_USAGE),
    Case("Anthropic JSON, exact cost", "message", "exact", RESPONSE_PROCESS),
    Case("agent, 40 KB, stream", "agent", "exact", ""),
)
SLOW_CASES = (("stream, usage asked for", "stream_slow"), ("stream, usage taken out", "stream_slow_strip"))


def load(side: Side, upstream_pid: int, kind: str, connections: int, seconds: float) -> dict[str, Any]:
    """One cell: benchmarks.load in a process of its own, and what Envoy says about ext_proc meanwhile."""
    pids = {**side.pids, "upstream": upstream_pid}
    before = messages(side.admin)
    command = [sys.executable, "-m", "benchmarks.load", str(side.port), kind, str(connections), str(seconds)]
    done = subprocess.run([*command, *map(str, pids.values())], stdout=subprocess.PIPE, check=True)
    result: dict[str, Any] = json.loads(done.stdout)
    if not result["requests"]:
        raise SystemExit(f"{kind} was not answered at all: {result['bad_shown']}")
    result["cpu_ms"] = dict(zip(pids, result["cpu_ms"], strict=True))
    requests = result.pop("all_requests")
    after = messages(side.admin)
    result["messages"] = {key: (count - before.get(key, 0)) / requests for key, count in after.items()}
    side.memory = {role: memory(pid) for role, pid in side.pids.items()}
    return result


def messages(admin: Path) -> dict[str, int]:
    """How many messages each ext_proc filter has sent to the server and received from it, ever."""
    connection = http.client.HTTPConnection("localhost", timeout=5)
    connection.sock = socket.socket(socket.AF_UNIX)
    try:
        connection.sock.connect(str(admin))
        connection.request("GET", "/stats?filter=ext_proc.*stream_msgs_&format=json")
        stats = json.loads(connection.getresponse().read())["stats"]
    finally:
        connection.close()
    counts = {}
    for stat in stats:
        *_, prefix, name = stat.get("name", "").split(".")
        counts[f"{prefix} {name.removeprefix('stream_msgs_')}"] = stat["value"]
    return counts


def memory(pid: int) -> dict[str, float]:
    """Resident megabytes, now and at most."""
    lines = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return {"rss_mb": int(lines["VmRSS"].split()[0]) / 1024, "peak_mb": int(lines["VmHWM"].split()[0]) / 1024}


def measure(seconds: float, rounds: int, cases: Sequence[Case], progress: Console) -> dict[str, Any]:
    """Everything, as plain data."""
    cells: Cells = {}
    slow: dict[str, dict[str, Any]] = {}
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="aion-bench-")))
        port, upstream_pid = stack.enter_context(upstream(directory))
        alone = stack.enter_context(envoy(directory / "alone", port, alone=True))
        noop = stack.enter_context(envoy(directory / "noop", port, alone=False))
        products = {
            cost: stack.enter_context(product(directory / cost, port, cost))
            for cost in dict.fromkeys(case.json_cost for case in cases)
        }
        for number in range(1, rounds + 1):
            for case in cases:
                progress.print(f"round {number} of {rounds}: {case.name}")
                sides = [(ALONE, alone, ""), (NOOP, noop, case.way), (PRODUCT, products[case.json_cost], "")]
                if case.way == RESPONSE_STRIP_USAGE:
                    sides.insert(2, (NOOP_UNTOUCHED, noop, ""))
                for connections in CONNECTIONS:
                    for name, side, way in sides:
                        side.prepare(KINDS[case.kind], way)
                        result = load(side, upstream_pid, case.kind, connections, seconds)
                        cells.setdefault((case.name, connections, name), []).append(result)
        for case in cases:
            for name, kind in SLOW_CASES:
                if name == case.name:
                    slow[name] = load(products[case.json_cost], upstream_pid, kind, 8, seconds)
        sides_seen = {ALONE: alone, NOOP: noop} | {f"{PRODUCT}, {cost}": side for cost, side in products.items()}
        memories = {name: side.memory for name, side in sides_seen.items()}
    return {
        "machine": {"cpus": os.cpu_count(), "python": platform.python_version(), "system": platform.platform()},
        "seconds": seconds,
        "rounds": rounds,
        "load_average": os.getloadavg(),
        "cells": [
            {"case": case, "connections": connections, "side": side, **middle(results), "rounds": results}
            for (case, connections, side), results in cells.items()
        ],
        "ratios": ratios(cells),
        "memory": memories,
        "slow_streams": slow,
        "bad": sum(r["bad"] for results in cells.values() for r in results) + sum(r["bad"] for r in slow.values()),
    }


def middle(results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The medians over the rounds."""
    return {
        "requests": sum(r["requests"] for r in results),
        "bad": sum(r["bad"] for r in results),
        **{key: median(r[key] or 0.0 for r in results) for key in ("per_second", "p50_ms", "p99_ms")},
        "cpu_ms": {role: median(r["cpu_ms"][role] or 0.0 for r in results) for role in results[0]["cpu_ms"]},
        "messages": {key: median(r["messages"][key] for r in results) for key in results[0]["messages"]},
    }


def ratios(cells: Cells) -> list[dict[str, Any]]:
    """The product against the do-nothing server, round by round, so that what slows a whole round cancels out."""
    found = []
    for (case, connections, side), noop in cells.items():
        if side not in (NOOP, NOOP_UNTOUCHED):
            continue
        alone, ours = cells[case, connections, ALONE], cells[case, connections, PRODUCT]
        throughput = [c["per_second"] / b["per_second"] for b, c in zip(noop, ours, strict=True)]
        entry: dict[str, Any] = {"case": case, "connections": connections, "against": side}
        entry["throughput"] = _spread(throughput)
        entry["python_cpu"] = _spread(
            [(c["cpu_ms"]["python"] or 0) / (b["cpu_ms"]["python"] or 1e-9) for b, c in zip(noop, ours, strict=True)]
        )
        if connections == 1:
            entry["added_p50"] = _spread(
                [
                    (c["p50_ms"] - a["p50_ms"]) / max(b["p50_ms"] - a["p50_ms"], 1e-6)
                    for a, b, c in zip(alone, noop, ours, strict=True)
                ]
            )
        found.append(entry)
    return found


def _spread(values: Sequence[float]) -> dict[str, float]:
    return {"median": median(values), "least": min(values), "most": max(values)}


def show(report: Mapping[str, Any], out: Console) -> None:
    roles = ("envoy", "python", "upstream")
    cpu = [f"{role} ms" for role in roles]
    table = Table("case", "conn.", "side", "requests/s", "p50 ms", "p99 ms", *cpu, "bad", box=None)
    previous = None
    for cell in report["cells"]:
        head = (cell["case"], str(cell["connections"]))
        if previous not in (None, head):
            table.add_row()
        figures = [f"{cell['per_second']:.0f}", f"{cell['p50_ms']:.2f}", f"{cell['p99_ms']:.2f}"]
        used = [f"{cell['cpu_ms'][role]:.3f}" if role in cell["cpu_ms"] else "" for role in roles]
        table.add_row(*(("", "") if head == previous else head), cell["side"], *figures, *used, str(cell["bad"]))
        previous = head
    out.print(table)
    out.print("The three last are CPU time for one request; python is the worker or the do-nothing server.\n")

    table = Table("product against", "case", "conn.", "throughput", "added p50", "python CPU", box=None)
    for entry in report["ratios"]:
        added = _text(entry["added_p50"], entry["added_p50"]["median"] <= LATENCY_GOAL) if "added_p50" in entry else ""
        throughput = _text(entry["throughput"], entry["throughput"]["median"] >= THROUGHPUT_GOAL)
        worker = _text(entry["python_cpu"])
        table.add_row(entry["against"], entry["case"], str(entry["connections"]), throughput, added, worker)
    out.print(table)
    out.print(
        f"Medians of the rounds' own ratios (least to most). Goals: throughput ≥ {THROUGHPUT_GOAL}, added p50 at one "
        f"connection ≤ {LATENCY_GOAL}; * is a goal missed.\n"
    )

    names = ("request sent", "request received", "response sent", "response received")
    table = Table("ext_proc messages for one request", *names, box=None)
    for cell in report["cells"]:
        if cell["side"] == PRODUCT and cell["connections"] == max(CONNECTIONS):
            table.add_row(cell["case"], *(f"{cell['messages'].get(name, 0):.2f}" for name in names))
    for case, result in report["slow_streams"].items():
        counts = (f"{result['messages'].get(name, 0):.2f}" for name in names)
        table.add_row(f"{case}, 50 chunks one by one", *counts)
    out.print(table)

    out.print()
    table = Table("memory, MB", "python now", "python at most", "Envoy now", "Envoy at most", box=None)
    for name, roles_seen in report["memory"].items():
        cells = [
            f"{roles_seen[role][key]:.0f}{'*' if role == 'python' and roles_seen[role][key] > RSS_GOAL_MB else ''}"
            if role in roles_seen
            else ""
            for role in ("python", "envoy")
            for key in ("rss_mb", "peak_mb")
        ]
        table.add_row(name, *cells)
    out.print(table)
    out.print(f"Goal: worker ≤ {RSS_GOAL_MB} MB.")
    if report["bad"]:
        out.print(f"\n[bold red]{report['bad']} answers were wrong[/]; the first of them:")
        results = [*(result for cell in report["cells"] for result in cell["rounds"]), *report["slow_streams"].values()]
        for text in [text for result in results for text in result["bad_shown"]][:10]:
            out.print(text, markup=False)


def _text(spread: Mapping[str, float], reached: bool = True) -> str:
    return f"{spread['median']:.2f}{'' if reached else '*'} ({spread['least']:.2f} to {spread['most']:.2f})"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.overhead", description=__doc__.split("\n", 1)[0])
    parser.add_argument("--seconds", type=float, default=3.0, help="of load for each figure (%(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="in each, everything is measured once (%(default)s)")
    parser.add_argument("--json", type=Path, help="write everything there too")
    parser.add_argument("--only", default="", help="only the cases with this in their name")
    options = parser.parse_args()
    cases = [case for case in CASES if options.only in case.name]
    if not cases:
        parser.error(f"no case has {options.only!r} in its name: {'; '.join(case.name for case in CASES)}")
    report = measure(options.seconds, options.rounds, cases, Console(stderr=True, highlight=False))
    show(report, Console(highlight=False, width=None if sys.stdout.isatty() else 160))
    if options.json is not None:
        options.json.write_text(json.dumps(report, indent=1) + "\n")
    return 1 if report["bad"] else 0


if __name__ == "__main__":
    sys.exit(main())
