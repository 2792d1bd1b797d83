"""Ledger rows for tests, and what reports must say of them, added up one by one."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, get_args

from hypothesis import strategies as st

from aion_extproc.accounting.row import AttemptRow, LedgerRow, Outcome
from aion_extproc.accounting.usage import Usage
from aion_extproc.stores.ledger_tables import HOUR_MS
from aion_extproc.stores.report_sums import AttemptSums, Sums
from aion_extproc.stores.scope import Scope

_HOURS = 50
START_MS = 20_000 * 24 * HOUR_MS
END_MS = START_MS + _HOURS * HOUR_MS

_counts = st.integers(0, 2**40)
_money = st.none() | st.integers(0, 2**45)
_names = st.sampled_from(["", "a", "b", 'odd "name"\\, ünicode'])
# Often at an hour's edge, where mistakes are made.
moments = st.integers(START_MS, END_MS) | st.builds(
    lambda hour, off: START_MS + hour * HOUR_MS + off, st.integers(0, _HOURS), st.sampled_from([-1, 0, 1])
)

rows = st.builds(
    LedgerRow,
    request_id=st.integers(0, 30).map(str),
    at_ms=moments,
    outcome=st.sampled_from(get_args(Outcome)),
    status=st.just(200),
    key_name=_names,
    tenant=_names,
    service=_names,
    model=_names,
    provider=_names,
    tier=st.integers(0, 3),
    task=_names,
    usage=st.builds(Usage, _counts, _counts, _counts, _counts, _counts, _counts),
    estimated=st.booleans(),
    cost_nano=_money,
    baseline_nano=_money,
    baseline_model=_names,
    reference_nano=_money,
    reference_model=_names,
    energy_low_mj=_money,
    energy_high_mj=_money,
    latency_ms=st.floats(0, 1e6),
)
attempts = st.builds(
    AttemptRow,
    request_id=st.integers(0, 30).map(str),
    number=st.integers(1, 3),
    at_ms=moments,
    provider=_names,
    model=_names,
    status=st.just(503),
    error=st.just("provider_503"),
    latency_ms=st.just(1.0),
    cost_nano=_money,
    key_name=_names,
    tenant=_names,
    service=_names,
)
scopes = st.builds(Scope, tenant=st.none() | _names, key_name=st.none() | _names, service=st.none() | _names)

Key = Callable[[Any], Any]


def within(rows: Iterable[Any], since_ms: int, until_ms: int, scope: Scope) -> list[Any]:
    """Those that a report from `since_ms` until before `until_ms` is about."""
    return [
        row
        for row in rows
        if since_ms <= row.at_ms < until_ms
        and scope.tenant in (None, row.tenant)
        and scope.key_name in (None, row.key_name)
        and scope.service in (None, row.service)
    ]


def added(rows: Iterable[LedgerRow], key: Key) -> dict[Any, Sums]:
    """The sums of each group."""
    groups: dict[Any, Sums] = {}
    for row in rows:
        groups[key(row)] = groups.get(key(row), Sums()) + _alone(row)
    return groups


def attempts_added(rows: Iterable[AttemptRow], key: Key) -> dict[Any, AttemptSums]:
    groups: dict[Any, AttemptSums] = {}
    for row in rows:
        one = AttemptSums(1, row.cost_nano is None, row.cost_nano or 0)
        groups[key(row)] = groups.get(key(row), AttemptSums()) + one
    return groups


def _alone(row: LedgerRow) -> Sums:
    cost, usage = row.cost_nano, row.usage
    sums: dict[str, int] = {
        "requests": 1,
        "estimated": row.estimated,
        "unpriced": row.outcome in ("served", "cut") and row.provider != "" and cost is None,
        "cost_nano": cost or 0,
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "cache_read_tokens": usage.cache_read_tokens,
        "cache_write_tokens": usage.cache_write_tokens,
        "cache_write_1h_tokens": usage.cache_write_1h_tokens,
        "reasoning_tokens": usage.reasoning_tokens,
        "metered": row.energy_low_mj is not None,
        "energy_low_mj": row.energy_low_mj or 0,
        "energy_high_mj": row.energy_high_mj or 0,
        "latency_us": int(row.latency_ms * 1000),
    }
    if cost is not None and row.baseline_nano is not None:
        sums |= {"compared": 1, "compared_cost_nano": cost, "baseline_nano": row.baseline_nano}
    if cost is not None and row.reference_nano is not None:
        sums |= {"referred": 1, "referred_cost_nano": cost, "reference_nano": row.reference_nano}
    return Sums(**sums)
