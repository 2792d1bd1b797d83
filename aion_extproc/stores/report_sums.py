"""Sums of the ledger's rows over any span of time, grouped by any of the keys that are kept by the hour.

Whole hours come from `hourly`, what is left of an hour at either end from the rows themselves:

    since ├───rows───┤ hour │ hour │ … │ hour ├───rows───┤ until

An hour of whose rows none lies outside of the span counts as whole. So does one whose rows have been deleted for their
age: such a span begins or ends with the hour.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any, TypeVar

from sqlalchemy import Connection, text

from aion_extproc.stores.ledger_tables import ATTEMPT_SUMS, HOUR_MS, KEPT_FROM, SUMS, over_rows
from aion_extproc.stores.scope import Scope

_LAST_MS = 2**63 - 1
_HOURS_A_DAY = 24
DAY = "day"  # besides the keys: days since 1970


@dataclass(frozen=True, slots=True)
class Sums:
    """Of any number of requests. Money in nano-dollars, energy in millijoules. Cached tokens are part of input,
    reasoning of output. Only requests whose cost and baseline are both known are `compared`; `referred` are those that
    have a cost and one at the named model."""

    requests: int = 0
    estimated: int = 0  # token counts are estimates
    unpriced: int = 0  # a provider answered, and no price is known
    cost_nano: int = 0
    compared: int = 0
    compared_cost_nano: int = 0
    baseline_nano: int = 0
    referred: int = 0
    referred_cost_nano: int = 0
    reference_nano: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    cache_write_1h_tokens: int = 0
    reasoning_tokens: int = 0
    metered: int = 0  # of which the energy is known
    energy_low_mj: int = 0
    energy_high_mj: int = 0
    latency_us: int = 0

    def __add__(self, other: Sums) -> Sums:
        return Sums(*(getattr(self, name) + getattr(other, name) for name in _NAMES))

    @property
    def saved_nano(self) -> int:
        """Against the dearest configured model."""
        return self.baseline_nano - self.compared_cost_nano

    @property
    def reference_saved_nano(self) -> int:
        """Against the model that the configuration names."""
        return self.reference_nano - self.referred_cost_nano


@dataclass(frozen=True, slots=True)
class AttemptSums:
    """Of failed attempts. What they cost is an estimate, and in no other sum."""

    attempts: int = 0
    unpriced: int = 0
    cost_nano: int = 0

    def __add__(self, other: AttemptSums) -> AttemptSums:
        return AttemptSums(
            self.attempts + other.attempts, self.unpriced + other.unpriced, self.cost_nano + other.cost_nano
        )


_NAMES = tuple(field.name for field in fields(Sums))
assert tuple(SUMS) == _NAMES
assert tuple(field.name for field in fields(AttemptSums)) == tuple(ATTEMPT_SUMS)

Group = tuple[Any, ...]
T = TypeVar("T", Sums, AttemptSums)


def sums(connection: Connection, since_ms: int, until_ms: int, keys: Sequence[str], scope: Scope) -> dict[Group, Sums]:
    """By their values of `keys`."""
    added: dict[Group, Sums] = {}
    for group, values in _read(connection, ("requests", "hourly", SUMS), since_ms, until_ms, keys, scope):
        added[group] = added.get(group, Sums()) + Sums(*values)
    return added


def attempt_sums(
    connection: Connection, since_ms: int, until_ms: int, keys: Sequence[str], scope: Scope
) -> dict[Group, AttemptSums]:
    """The same of failed attempts; by when each failed."""
    added: dict[Group, AttemptSums] = {}
    read = ("attempts", "hourly_attempts", ATTEMPT_SUMS)
    for group, values in _read(connection, read, since_ms, until_ms, keys, scope):
        added[group] = added.get(group, AttemptSums()) + AttemptSums(*values)
    return added


def _read(
    connection: Connection,
    tables: tuple[str, str, dict[str, str]],
    since_ms: int,
    until_ms: int,
    keys: Sequence[str],
    scope: Scope,
) -> Iterator[tuple[Group, Sequence[int]]]:
    rows, hourly, summed = tables
    first, last, rest = _hours(connection, rows, since_ms, until_ms)
    wanted = {key: getattr(scope, key) for key in ("tenant", "key_name", "service")}
    limits = {key: value for key, value in wanted.items() if value is not None}
    inside = "".join(f" AND {key} = :{key}" for key in limits)

    def select(table: str, moment: str, day: str, sums: list[str], since: int, until: int) -> list[Sequence[Any]]:
        named = [day if key == DAY else key for key in keys]
        query = f"SELECT {', '.join([*named, *sums])} FROM {table}"
        query += f" WHERE {moment} >= :since AND {moment} < :until{inside}"
        query += f" GROUP BY {', '.join(named)}" if named else ""
        return list(connection.execute(text(query), {"since": since, "until": until, **limits}))

    found = []
    if first < last:
        found += select(hourly, "hour", f"hour / {_HOURS_A_DAY}", [f"sum({name})" for name in summed], first, last)
    single = over_rows(summed, connection.dialect.name)
    for since, until in rest:
        found += select(rows, "at_ms", f"at_ms / {_HOURS_A_DAY * HOUR_MS}", single, since, until)
    for record in found:
        yield tuple(record[: len(keys)]), [int(value or 0) for value in record[len(keys) :]]


def _hours(
    connection: Connection, rows: str, since_ms: int, until_ms: int
) -> tuple[int, int, list[tuple[int, int]]]:
    """The first hour to take whole, that after the last, and the spans to read row by row."""
    since_ms, until_ms = max(since_ms, 0), min(until_ms, _LAST_MS)
    if since_ms >= until_ms:
        return 0, 0, []
    mark = text("SELECT value FROM ledger_marks WHERE name = :name")
    kept_from = connection.execute(mark, {"name": KEPT_FROM}).scalar() or 0
    exists = text(f"SELECT 1 FROM {rows} WHERE at_ms >= :since AND at_ms < :until LIMIT 1")

    def some(since: int, until: int) -> bool:
        """Whether there are rows, all of the hour's still being there."""
        if since >= until or since < kept_from:
            return False
        return connection.execute(exists, {"since": since, "until": min(until, _LAST_MS)}).first() is not None

    first, last = since_ms // HOUR_MS, -(-until_ms // HOUR_MS)
    before = some(first * HOUR_MS, since_ms)
    after = some(until_ms, last * HOUR_MS)
    if last - first == 1 and (before or after):
        return 0, 0, [(since_ms, until_ms)]
    rest = []
    if before:
        first += 1
        rest.append((since_ms, first * HOUR_MS))
    if after:
        last -= 1
        rest.append((last * HOUR_MS, until_ms))
    return first, last, rest
