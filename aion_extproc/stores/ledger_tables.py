"""The ledger's tables: what is written into them, and the sums that are kept by the hour.

`requests` and `attempts` hold a row each, `hourly` and `hourly_attempts` their sums for every hour and combination of
keys. The schema itself is made by migrations/; columns added here need one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from operator import attrgetter
from typing import Any

from sqlalchemy import BigInteger, Boolean, Column, Double, MetaData, String, Table

from aion_extproc.accounting.row import AttemptRow, LedgerRow
from aion_extproc.accounting.usage import Usage

TEXT_LIMIT = 256  # characters: what a client chose (a model name, say) must not grow the ledger
# Of any integer. A thousand rows that reach it still have a sum of 64 bits, and in nano-dollars it is 9 million.
MOST = 2**53
HOUR_MS = 3_600_000
KEPT_FROM = "kept_from_ms"  # the mark before which single rows are gone (retention.py)

metadata = MetaData()


def _text(name: str) -> Column[str]:
    return Column(name, String(TEXT_LIMIT))


def _int(name: str) -> Column[int]:
    return Column(name, BigInteger)


requests = Table(
    "requests",
    metadata,
    _text("request_id"),
    _int("at_ms"),
    _text("outcome"),
    _int("status"),
    _text("path"),
    _text("format"),
    Column("stream", Boolean),
    _text("key_name"),
    _text("tenant"),
    _text("service"),
    _text("tags"),
    _text("asked_model"),
    _text("model"),
    _text("provider"),
    _int("tier"),
    Column("score", Double),
    _text("task"),
    _text("reason"),
    _text("error"),
    _int("attempts"),
    _int("input_tokens"),
    _int("output_tokens"),
    _int("cache_read_tokens"),
    _int("cache_write_tokens"),
    _int("cache_write_1h_tokens"),
    _int("reasoning_tokens"),
    Column("estimated", Boolean),
    _int("cost_nano"),
    _int("baseline_nano"),
    _text("baseline_model"),
    _int("reference_nano"),
    _text("reference_model"),
    _int("energy_low_mj"),
    _int("energy_high_mj"),
    Column("latency_ms", Double),
    Column("ttft_ms", Double),
    _int("request_bytes"),
    _int("response_bytes"),
)

attempts = Table(
    "attempts",
    metadata,
    _text("request_id"),
    _int("number"),
    _int("at_ms"),
    _text("provider"),
    _text("model"),
    _int("status"),
    _text("error"),
    Column("latency_ms", Double),
    _int("cost_nano"),
    _text("key_name"),
    _text("tenant"),
    _text("service"),
)

COLUMNS = tuple(column.name for column in requests.columns)
ATTEMPT_COLUMNS = tuple(column.name for column in attempts.columns)

KEYS = (
    "tenant", "key_name", "service", "provider", "model", "tier", "task", "outcome", "baseline_model", "reference_model"
)  # fmt: skip
ATTEMPT_KEYS = ("tenant", "key_name", "service", "provider", "model")

_COMPARED = "cost_nano IS NOT NULL AND baseline_nano IS NOT NULL"
_REFERRED = "cost_nano IS NOT NULL AND reference_nano IS NOT NULL"
_UNPRICED = "outcome IN ('served', 'cut') AND provider <> '' AND cost_nano IS NULL"  # somebody answered

# What is summed, and each as SQL over single rows. Integers all, so that sums are exact in any order.
SUMS = {
    "requests": "count(*)",
    "estimated": "sum(CASE WHEN estimated THEN 1 ELSE 0 END)",
    "unpriced": f"sum(CASE WHEN {_UNPRICED} THEN 1 ELSE 0 END)",
    "cost_nano": "sum(coalesce(cost_nano, 0))",
    "compared": f"sum(CASE WHEN {_COMPARED} THEN 1 ELSE 0 END)",
    "compared_cost_nano": f"sum(CASE WHEN {_COMPARED} THEN cost_nano ELSE 0 END)",
    "baseline_nano": f"sum(CASE WHEN {_COMPARED} THEN baseline_nano ELSE 0 END)",
    "referred": f"sum(CASE WHEN {_REFERRED} THEN 1 ELSE 0 END)",
    "referred_cost_nano": f"sum(CASE WHEN {_REFERRED} THEN cost_nano ELSE 0 END)",
    "reference_nano": f"sum(CASE WHEN {_REFERRED} THEN reference_nano ELSE 0 END)",
    "input_tokens": "sum(input_tokens)",
    "output_tokens": "sum(output_tokens)",
    "cache_read_tokens": "sum(cache_read_tokens)",
    "cache_write_tokens": "sum(cache_write_tokens)",
    "cache_write_1h_tokens": "sum(cache_write_1h_tokens)",
    "reasoning_tokens": "sum(reasoning_tokens)",
    "metered": "sum(CASE WHEN energy_low_mj IS NULL THEN 0 ELSE 1 END)",
    "energy_low_mj": "sum(coalesce(energy_low_mj, 0))",
    "energy_high_mj": "sum(coalesce(energy_high_mj, 0))",
    "latency_us": "sum(CAST({trunc}(latency_ms * 1000) AS BIGINT))",  # a cast rounds in PostgreSQL, not in SQLite
}
ATTEMPT_SUMS = {
    "attempts": "count(*)",
    "unpriced": "sum(CASE WHEN cost_nano IS NULL THEN 1 ELSE 0 END)",
    "cost_nano": "sum(coalesce(cost_nano, 0))",
}


def over_rows(sums: dict[str, str], dialect: str) -> list[str]:
    """The sums as SQL over single rows."""
    return [text.replace("{trunc}", "" if dialect == "sqlite" else "trunc") for text in sums.values()]


def add_up(table: str, source: str, keys: tuple[str, ...], sums: dict[str, str], dialect: str) -> str:
    """SQL that adds the rows of `source` (a table or CTE with its condition) to the sums of their hours. In an order
    that is the same for everybody, so that two writers wait for each other in turn and not in a circle.

    `dims` is all keys in one: an index of PostgreSQL holds no more than 2.7 KB.
    """
    listed = ", ".join(keys)
    dims = f"json_array({listed})"
    if dialect != "sqlite":
        dims = f"encode(sha256(convert_to(jsonb_build_array({listed})::text, 'UTF8')), 'hex')"
    raised = ", ".join(f"{name} = {table}.{name} + excluded.{name}" for name in sums)
    return (
        f"INSERT INTO {table} (hour, dims, {listed}, {', '.join(sums)})"
        f" SELECT at_ms / {HOUR_MS}, {dims}, {listed}, {', '.join(over_rows(sums, dialect))} FROM {source}"
        f" GROUP BY at_ms / {HOUR_MS}, {listed} ORDER BY 1, 2"
        f" ON CONFLICT (hour, dims) DO UPDATE SET {raised}"
    )


_USAGE = tuple(f.name for f in fields(Usage))
# One C call turns a row into its tuple of values, in the order of the columns.
values = attrgetter(*(f"usage.{name}" if name in _USAGE else name for name in COLUMNS))
attempt_values = attrgetter(*ATTEMPT_COLUMNS)


def row(record: Any) -> LedgerRow:
    """A record of `requests` as the row that it was."""
    usage = Usage(**{name: record[name] for name in _USAGE})
    return LedgerRow(usage=usage, **{name: record[name] for name in COLUMNS if name not in _USAGE})


def attempt_row(record: Any) -> AttemptRow:
    return AttemptRow(**record)


def all_storable(table: Table, rows: Sequence[tuple[Any, ...]]) -> Sequence[tuple[Any, ...]]:
    """The same rows as both databases can hold them: text that is valid UTF-8, short and without NUL, integers whose
    sums have 64 bits. Looked at column by column: nearly always there is nothing to do."""
    if not any(_odd(column, values) for column, values in zip(table.columns, zip(*rows, strict=True), strict=False)):
        return rows
    return [_storable(table, row) for row in rows]


def _odd(column: Column[Any], values: tuple[Any, ...]) -> bool:
    if isinstance(column.type, String):
        joined = "".join(values)
        if max(map(len, values)) > TEXT_LIMIT or "\0" in joined:
            return True
        return not joined.isascii() and any("\ud800" <= character <= "\udfff" for character in joined)
    if isinstance(column.type, BigInteger):
        return max(filter(None, values), default=0) > MOST or min(filter(None, values), default=0) < -MOST
    return False


def _storable(table: Table, row: tuple[Any, ...]) -> tuple[Any, ...]:
    clean = list(row)
    for at, column in enumerate(table.columns):
        value = clean[at]
        if isinstance(column.type, String):
            clean[at] = value[:TEXT_LIMIT].encode("utf-8", "replace").decode().replace("\0", "\ufffd")
        elif isinstance(column.type, BigInteger) and value is not None:
            clean[at] = max(-MOST, min(MOST, value))
    return tuple(clean)
