"""What the ledger costs: `python -m benchmarks.state_ledger [--rows N] [--written N] [--rounds N] [--json PATH]`.

1. Rows a second into each database, by batches of 500 and 5,000, as the writer does it: rows, sums by the hour and the
   check for what is there already, in one transaction each. In each round the same rows go the plain way too, COPY (of
   SQLite: executemany) into the same table without its sums; the ratio is taken inside the round.
2. Reports on `--rows` rows of a year, and what the same question costs where it is asked of the rows themselves.

PostgreSQL is the benchmark's own, with everything as it comes (fsync on, 128 MB of buffers). All data is deleted.
"""

from __future__ import annotations

import argparse
import gc
import json
import random
import tempfile
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter, process_time
from typing import Any

from rich.console import Console
from rich.table import Table
from sqlalchemy import Engine

from aion_extproc.accounting.row import LedgerRow
from aion_extproc.accounting.usage import Usage
from aion_extproc.stores.database import exclusive
from aion_extproc.stores.ledger import Ledger
from aion_extproc.stores.ledger_sqlite import _INSERT
from aion_extproc.stores.ledger_tables import COLUMNS, HOUR_MS, KEYS, SUMS, add_up, values
from aion_extproc.stores.report import By
from tests.support.postgres import postgres

DAY_MS = 24 * HOUR_MS
YEAR_MS = 365 * DAY_MS
START_MS = 20_000 * DAY_MS
SPANS = {"the year": YEAR_MS, "30 days": 30 * DAY_MS, "24 hours": DAY_MS}
BYS: tuple[By, ...] = ("model", "day", "tenant")
MODELS, TENANTS, OUTCOMES = 10, 5, 2


def made(count: int, at_ms: int, rng: random.Random) -> list[LedgerRow]:
    """Rows as a busy gateway has them: three hours, ten models, five tenants."""
    return [
        LedgerRow(
            request_id=str(uuid.UUID(int=rng.getrandbits(128))),
            at_ms=at_ms + rng.randrange(3 * HOUR_MS),
            outcome="served",
            status=200,
            path="/v1/chat/completions",
            format="openai",
            key_name=f"key-{rng.randrange(TENANTS)}",
            tenant=f"tenant-{rng.randrange(TENANTS)}",
            asked_model="aion-auto",
            model=f"model-{rng.randrange(MODELS)}",
            provider="openai",
            tier=1,
            score=0.25,
            task="code",
            reason="score 0.25 below 0.35",
            attempts=1,
            usage=Usage(rng.randrange(5000), rng.randrange(1000), 100, 0, 0, 20),
            cost_nano=rng.randrange(10**7),
            baseline_nano=rng.randrange(10**8),
            baseline_model="o1",
            energy_low_mj=rng.randrange(10**5),
            energy_high_mj=rng.randrange(10**6),
            latency_ms=rng.random() * 1000,
            ttft_ms=rng.random() * 300,
            request_bytes=2000,
            response_bytes=3000,
        )
        for _ in range(count)
    ]


def plain(engine: Engine, rows: Sequence[LedgerRow]) -> None:
    """The rows by themselves."""
    if engine.dialect.name == "sqlite":
        with exclusive(engine) as connection:
            connection.exec_driver_sql(_INSERT, [values(row) for row in rows])
        return
    with engine.begin() as connection:
        driver: Any = connection.connection.driver_connection
        with driver.cursor() as cursor, cursor.copy(f"COPY requests ({', '.join(COLUMNS)}) FROM STDIN") as copy:
            for row in rows:
                copy.write_row(values(row))


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Seconds of the clock, and of this process's CPU."""
    gc.collect()
    clock, cpu = perf_counter(), process_time()
    work()
    return perf_counter() - clock, process_time() - cpu


def all_of(side: Callable[[Sequence[LedgerRow]], object], batches: Sequence[Sequence[LedgerRow]]) -> None:
    for rows in batches:
        side(rows)


def writing(ledger: Ledger, count: int, rounds: int) -> list[dict[str, Any]]:
    rng = random.Random(1)
    found = []
    for batch in (500, 5000):
        figures = []
        for round_ in range(rounds):
            at_ms = START_MS + round_ * 3 * HOUR_MS
            with ledger.engine() as engine:
                sides: dict[str, Callable[[Sequence[LedgerRow]], object]]
                sides = {"ledger": ledger.add, "plain": partial(plain, engine)}
            figure: dict[str, float] = {}
            for name in random.sample(list(sides), 2):
                batches = [made(batch, at_ms, rng) for _ in range(max(1, count // batch))]
                clock, cpu = timed(partial(all_of, sides[name], batches))
                rows = batch * len(batches)
                figure |= {f"{name}_rows_s": rows / clock, f"{name}_cpu_us": cpu / rows * 1e6}
            figures.append(figure)
        of = {name: median(figure[name] for figure in figures) for name in figures[0]}
        ratio = median(figure["ledger_rows_s"] / figure["plain_rows_s"] for figure in figures)
        found.append({"batch": batch, **of, "of_plain": ratio, "rounds": figures})
    return found


def fill(engine: Engine, count: int) -> None:
    """`count` rows in a year, made by the database, and the sums of them."""
    sqlite = engine.dialect.name == "sqlite"
    columns: dict[str, str] = dict.fromkeys(COLUMNS, "0")
    columns |= dict.fromkeys(("path", "format", "asked_model", "reason", "error", "tags", "reference_model"), "'x'")
    columns |= {name: "NULL" for name in ("score", "ttft_ms", "reference_nano", "energy_low_mj", "energy_high_mj")}
    columns |= {
        "request_id": "'00000000-0000-0000-0000-' || n",
        "at_ms": f"{START_MS} + n * {YEAR_MS // count}",
        "outcome": f"CASE n % {OUTCOMES} WHEN 0 THEN 'served' ELSE 'cut' END",
        "stream": "n % 2 = 0",
        "key_name": f"'key-' || (n / {MODELS} % {TENANTS})",  # fifty combinations in every hour
        "tenant": f"'tenant-' || (n / {MODELS} % {TENANTS})",
        "service": "''",
        "model": f"'model-' || (n % {MODELS})",
        "provider": f"'provider-' || (n % {TENANTS})",
        "task": "'code'",
        "input_tokens": "n % 5000",
        "output_tokens": "n % 1000",
        "estimated": "n % 10 = 0",
        "cost_nano": "n % 10000000",
        "baseline_nano": "n % 100000000",
        "baseline_model": "'o1'",
        "latency_ms": "n % 1000",
    }
    numbers = f"generate_series(0::bigint, {count - 1}) AS numbers (n)"
    if sqlite:
        counting = f"SELECT 0 UNION ALL SELECT n + 1 FROM numbers WHERE n < {count - 1}"
        numbers = f"(WITH RECURSIVE numbers (n) AS ({counting}) SELECT n FROM numbers)"
    insert = f"INSERT INTO requests ({', '.join(columns)}) SELECT {', '.join(columns.values())} FROM {numbers}"
    with exclusive(engine) as connection:
        connection.exec_driver_sql(insert if sqlite else insert.replace("%", "%%"))
        connection.exec_driver_sql(add_up("hourly", "requests WHERE true", KEYS, SUMS, engine.dialect.name))
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)" if sqlite else "VACUUM ANALYZE requests, hourly")


def reports(ledger: Ledger, rows: int, rounds: int) -> dict[str, Any]:
    with ledger.engine() as engine:
        seconds, _ = timed(lambda: fill(engine, rows))
        with engine.connect() as connection:
            hourly = connection.exec_driver_sql("SELECT count(*) FROM hourly").scalar()
    until = START_MS + YEAR_MS
    found: dict[str, Any] = {"rows": rows, "hourly_rows": hourly, "filled_seconds": seconds, "reports": []}
    for name, span in SPANS.items():
        for by in BYS:
            # Not from an hour's beginning, so that rows are read too.
            ask = partial(ledger.report, until - span + 12_345, until, by)
            times = [timed(ask)[0] for _ in range(rounds)]
            found["reports"].append({"span": name, "by": by, "seconds": median(times), "worst": max(times)})
    query = (
        "SELECT provider, model, count(*), sum(cost_nano), sum(baseline_nano), sum(input_tokens), sum(output_tokens)"
        " FROM requests GROUP BY provider, model"
    )
    with engine.connect() as connection:
        found["from_rows_seconds"] = timed(lambda: connection.exec_driver_sql(query).all())[0]
    return found


@contextmanager
def databases(only: str | None) -> Iterator[dict[str, str]]:
    """Targets of empty databases, by name."""
    with tempfile.TemporaryDirectory(prefix="aion-bench-") as directory:
        targets = {"SQLite": str(Path(directory) / "aion.db")}
        if only == "SQLite":
            yield targets
            return
        with postgres({}) as server, server.database() as url:
            yield ({} if only == "Postgres" else targets) | {"Postgres": url}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000_000, help="on which reports are asked; 0: none")
    parser.add_argument("--written", type=int, default=50_000, help="rows a round and side")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", choices=["SQLite", "Postgres"])
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    out = Console(highlight=False)
    result: dict[str, Any] = {}
    with databases(options.only) as targets:
        for name, target in targets.items():
            ledger = Ledger(target)
            of: dict[str, Any] = {"writing": writing(ledger, options.written, options.rounds)}
            table = Table("batch", "rows/s", "CPU µs/row", "plain rows/s", "of plain", title=f"{name}: writing")
            for one in of["writing"]:
                shown = (one["ledger_rows_s"], one["ledger_cpu_us"], one["plain_rows_s"])
                table.add_row(str(one["batch"]), *(f"{value:,.0f}" for value in shown), f"{one['of_plain']:.2f}")
            out.print(table)
            if options.rows:
                with ledger.engine() as engine, exclusive(engine) as connection:
                    for made_of in ("requests", "hourly"):
                        connection.exec_driver_sql(f"DELETE FROM {made_of}")
                of["reports"] = found = reports(ledger, options.rows, options.rounds)
                title = f"{name}: reports on {found['rows']:,} rows, {found['hourly_rows']:,} sums"
                table = Table("span", "by", "seconds", "worst", title=title)
                for one in found["reports"]:
                    table.add_row(one["span"], one["by"], f"{one['seconds']:.3f}", f"{one['worst']:.3f}")
                table.add_row("the year, from the rows", "model", f"{found['from_rows_seconds']:.3f}", "")
                out.print(table)
            ledger.close()
            result[name] = of
    if options.json:
        options.json.write_text(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
