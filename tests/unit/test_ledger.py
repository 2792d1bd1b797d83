"""The ledger on its own: round trips, replays, bounds, sums. test_ledger_processes.py has the crowd."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aion_extproc.accounting.row import AttemptRow, LedgerRow, Outcome
from aion_extproc.accounting.usage import Usage
from aion_extproc.stores.ledger import INT64_MAX, Ledger, LedgerError
from aion_extproc.stores.ledger_tables import MOST
from aion_extproc.stores.report import ModelCost

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=256)
counts = st.integers(0, 2**40)
money = st.none() | st.integers(0, MOST)
seconds = st.floats(0, 1e9, allow_nan=False)

rows = st.builds(
    LedgerRow,
    request_id=texts,
    at_ms=st.integers(0, 2**45),
    outcome=st.sampled_from(get_args(Outcome)),
    status=st.integers(0, 599),
    path=texts,
    format=st.sampled_from(["openai", "anthropic", ""]),
    stream=st.booleans(),
    key_name=texts,
    tenant=texts,
    service=texts,
    tags=texts,
    asked_model=texts,
    model=texts,
    provider=texts,
    tier=st.integers(0, 3),
    score=st.none() | st.floats(0, 1),
    task=texts,
    reason=texts,
    error=texts,
    attempts=st.integers(0, 9),
    usage=st.builds(Usage, counts, counts, counts, counts, counts, counts),
    estimated=st.booleans(),
    cost_nano=money,
    baseline_nano=money,
    baseline_model=texts,
    reference_nano=money,
    reference_model=texts,
    energy_low_mj=money,
    energy_high_mj=money,
    latency_ms=seconds,
    ttft_ms=st.none() | seconds,
    request_bytes=counts,
    response_bytes=counts,
)

NOW = 1_800_000_000_000


def row(request_id: str = "r1", **changes: object) -> LedgerRow:
    base = LedgerRow(request_id=request_id, at_ms=NOW, outcome="served", status=200)
    return replace(base, **changes)  # type: ignore[arg-type]


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    ledger = Ledger(tmp_path / "data" / "aion.db")
    yield ledger
    ledger.close()


@given(batch=st.lists(rows, max_size=8))
def test_rows_come_back_as_they_went_in_and_a_replay_changes_nothing(batch: list[LedgerRow]) -> None:
    with TemporaryDirectory() as directory, closing(Ledger(Path(directory) / "aion.db")) as ledger:
        first: dict[str, LedgerRow] = {}
        for each in batch:
            first.setdefault(each.request_id, each)
        assert ledger.add(batch) == len(first)
        stored = ledger.rows()
        assert {each.request_id: each for each in stored} == first
        assert [each.at_ms for each in stored] == sorted(each.at_ms for each in stored)
        assert ledger.add(batch) == 0
        assert ledger.add([replace(each, status=418, cost_nano=1) for each in batch]) == 0
        assert ledger.rows() == stored


def test_the_first_of_two_rows_with_one_id_wins(ledger: Ledger) -> None:
    refused = row(outcome="refused", status=400, error="invalid_json")
    assert ledger.add([refused]) == 1
    assert ledger.add([row(outcome="failed", status=400), row("r2")]) == 1
    assert ledger.rows()[0] == refused


@pytest.mark.parametrize(
    ("odd", "stored"),
    [
        ({"asked_model": "a\ud800b"}, {"asked_model": "a?b"}),
        ({"error": "a\0b"}, {"error": "a\ufffdb"}),
        ({"usage": Usage(input_tokens=2**64 - 1)}, {"usage": Usage(input_tokens=MOST)}),
        ({"cost_nano": 2**60}, {"cost_nano": MOST}),
        ({"task": "x" * 1_000_000}, {"task": "x" * 256}),
    ],
)
def test_what_a_database_cannot_hold_is_stored_as_near_as_possible(
    ledger: Ledger, odd: dict[str, object], stored: dict[str, object]
) -> None:
    assert ledger.add([row("plain"), row("odd", **odd)]) == 2
    assert {each.request_id: each for each in ledger.rows()} == {"plain": row("plain"), "odd": row("odd", **stored)}
    ledger.savings(0, INT64_MAX)


def test_rows_are_taken_from_since_until_before_until(ledger: Ledger) -> None:
    ledger.add([row(str(at), at_ms=at) for at in range(10)])
    assert [each.at_ms for each in ledger.rows(3, 7)] == [3, 4, 5, 6]
    assert [each.at_ms for each in ledger.rows(limit=2)] == [0, 1]
    assert ledger.savings(3, 7).requests == 4
    assert ledger.routing(3, 7).requests == 4


def test_the_file_is_in_wal_mode_with_its_schema_version(ledger: Ledger) -> None:
    with sqlite3.connect(ledger.name) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert connection.execute("PRAGMA user_version").fetchone() == (3,)
        plan = str(connection.execute("EXPLAIN QUERY PLAN SELECT * FROM requests WHERE at_ms >= 5").fetchall())
        assert "requests_at_ms" in plan


def test_failed_attempts_stand_beside_the_request(ledger: Ledger) -> None:
    first = AttemptRow("id-1", 1, 5, "openai", "gpt-small", 503, "provider_503", 12.5, 0)
    second = AttemptRow("id-1", 2, 6, "openai", "gpt-mid", 0, "upstream_timeout", 300.0, None)
    other = AttemptRow("id-2", 1, 6, "openai", "gpt-mid", 0, "connect_failed", 0.5, 0)
    assert ledger.add([second, row(request_id="id-1"), other, first]) == 1
    assert ledger.add([first, row(request_id="id-1")]) == 0, "a batch that comes again"
    assert ledger.attempts("id-1") == [first, second]
    assert ledger.attempts("id-3") == []
    assert len(ledger.rows()) == 1


def test_a_ledger_survives_being_closed(ledger: Ledger) -> None:
    ledger.add([row()])
    ledger.close()
    again = Ledger(ledger.name)
    assert again.rows() == [row()]
    again.close()


def test_a_path_that_cannot_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(LedgerError, match="file"):
        Ledger(tmp_path / "file" / "aion.db")
    with pytest.raises(LedgerError, match="unable to open"):
        Ledger(tmp_path)


def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    (tmp_path / "aion.db").write_text("something else entirely " * 100)
    with pytest.raises(LedgerError, match=r"aion\.db.*not a database"):
        Ledger(tmp_path / "aion.db")


def test_an_empty_ledger_has_empty_reports(ledger: Ledger) -> None:
    savings = ledger.savings(0, INT64_MAX)
    assert (savings.requests, savings.cost_nano, savings.saved_nano, savings.baseline_models) == (0, 0, 0, ())
    assert ledger.routing(0, INT64_MAX).by_model == ()
    assert ledger.costs(0, INT64_MAX).by_model == ()


def test_savings_compare_only_what_can_be_compared(ledger: Ledger) -> None:
    priced = {"provider": "openai", "model": "small", "baseline_model": "big"}
    ledger.add(
        [
            row("a", cost_nano=3_000, baseline_nano=90_000, **priced),
            row("b", cost_nano=7_000, baseline_nano=10_000, estimated=True, **priced),
            row("cost without a baseline", provider="openai", model="small", cost_nano=500),
            row("unknown price", provider="vllm", model="mine", baseline_nano=90_000, baseline_model="big"),
            row("cut, unknown", provider="vllm", model="mine", outcome="cut"),
            row("failed", provider="vllm", model="mine", outcome="failed", status=503),
            row("refused", outcome="refused", status=400),
        ]
    )
    savings = ledger.savings(0, INT64_MAX)
    assert savings.requests == 7
    assert savings.cost_nano == 10_500
    assert (savings.compared_requests, savings.compared_cost_nano, savings.baseline_nano) == (
        2,
        10_000,
        100_000,
    )
    assert savings.saved_nano == 90_000
    assert savings.unpriced_requests == 2
    assert savings.estimated_requests == 1
    assert savings.baseline_models == ("big",)


def test_money_is_exact_past_what_a_float_holds(ledger: Ledger) -> None:
    ledger.add([row(str(n), provider="p", model="m", cost_nano=2**52 + 1) for n in range(3)])
    assert ledger.savings(0, INT64_MAX).cost_nano == 3 * (2**52 + 1)
    assert ledger.costs(0, INT64_MAX).cost_nano == 3 * (2**52 + 1)


def test_routing_counts_tiers_models_tasks_and_outcomes(ledger: Ledger) -> None:
    small = {"provider": "openai", "model": "small", "tier": 1, "task": "chat"}
    big = {"provider": "openai", "model": "big", "tier": 3, "task": "code"}
    ledger.add(
        [
            row("a", **small),
            row("b", **small),
            row("c", outcome="cut", **big),
            row("d", provider="openai", model="big", tier=3),
            row("e", outcome="refused", status=401),
        ]
    )
    routing = ledger.routing(0, INT64_MAX)
    assert (routing.requests, routing.routed_requests) == (5, 4)
    assert [(s.name, s.requests, s.percent) for s in routing.by_tier] == [("1", 2, 50.0), ("3", 2, 50.0)]
    assert {(m.model, m.tier, m.requests) for m in routing.by_model} == {("small", 1, 2), ("big", 3, 2)}
    assert {(s.name, s.requests) for s in routing.by_task} == {("chat", 2), ("code", 1), ("unclassified", 1)}
    assert {(s.name, s.percent) for s in routing.by_outcome} == {
        ("served", 60.0),
        ("cut", 20.0),
        ("refused", 20.0),
    }


def test_costs_sum_tokens_by_provider_and_model(ledger: Ledger) -> None:
    usage = Usage(100, 20, 30, 10, 5, 7)
    ledger.add(
        [
            row("a", provider="anthropic", model="m", usage=usage, cost_nano=1),
            row("b", provider="anthropic", model="m", usage=usage, cost_nano=2, estimated=True),
            row("c", provider="bedrock", model="m", usage=usage),
            row("d", outcome="refused"),
        ]
    )
    costs = ledger.costs(0, INT64_MAX)
    assert (costs.requests, costs.cost_nano) == (3, 3)
    assert costs.by_model == (
        ModelCost("anthropic", "m", 2, 200, 40, 60, 20, 14, 3, 0, 1),
        ModelCost("bedrock", "m", 1, 100, 20, 30, 10, 7, 0, 1, 0),
    )
