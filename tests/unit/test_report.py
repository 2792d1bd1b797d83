"""`aion report` and GET /aion/v1/stats: figures that can be added up, of whom they were asked for."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, get_args

import pytest
import structlog
from typer.testing import CliRunner

from aion_extproc.accounting.row import AttemptRow, LedgerRow
from aion_extproc.accounting.usage import Usage
from aion_extproc.api.answers import stats_answer
from aion_extproc.cli import app
from aion_extproc.report import moment
from aion_extproc.stores.ledger import Ledger
from aion_extproc.stores.report import By
from aion_extproc.stores.scope import Scope
from tests.unit.test_api import api

NOW = datetime(2026, 11, 22, 12, 30, tzinfo=UTC)
NOW_MS = int(NOW.timestamp()) * 1000
HOUR_MS = 3_600_000

SMALL = LedgerRow(
    "1", NOW_MS - HOUR_MS, "served", 200, key_name="dev", tenant="acme", service="chat", model="small",
    provider="openai", tier=1, task="code", usage=Usage(1000, 100, 40, 30, 0, 20), cost_nano=210_001,
    baseline_nano=21_000_000, baseline_model="o1", reference_nano=900_000, reference_model="gpt-5",
    energy_low_mj=1_234, energy_high_mj=99_999, latency_ms=12.3456,
)  # fmt: skip
ROWS: list[LedgerRow | AttemptRow] = [
    SMALL,
    replace(SMALL, request_id="2", cost_nano=3, estimated=True, tenant="=evil()", tier=2, task=""),
    replace(SMALL, request_id="3", at_ms=NOW_MS - 30 * HOUR_MS, model="big", cost_nano=10**12 + 1, key_name=""),
    replace(SMALL, request_id="4", cost_nano=None, energy_low_mj=None, energy_high_mj=None, provider="vllm"),
    LedgerRow("5", NOW_MS - HOUR_MS, "refused", 400),
    replace(SMALL, request_id="old", at_ms=NOW_MS - 20 * 24 * HOUR_MS),
    AttemptRow("1", 1, NOW_MS - HOUR_MS, "openai", "big", 0, "upstream_timeout", 5.0, 70, "dev", "acme", "chat"),
]


@pytest.fixture(autouse=True)
def logging() -> Iterator[None]:
    """The command sets it up for its own process, with a standard error that is closed after it."""
    yield
    structlog.reset_defaults()


@pytest.fixture
def config(tmp_path: Path) -> Path:
    ledger = Ledger(tmp_path / "aion.db")
    ledger.add(ROWS)
    ledger.close()
    path = tmp_path / "aion.yaml"
    path.write_text(f"telemetry: {{db_path: {tmp_path / 'aion.db'}}}\n")
    return path


def run(config: Path, *options: str) -> str:
    until = [] if "--until" in options else ["--until", NOW.isoformat()]
    since = [] if "--since" in options else ["--since", (NOW - timedelta(days=7)).isoformat()]
    result = CliRunner().invoke(app, ["report", "-c", str(config), *since, *until, *options])
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.parametrize("by", ["model", "provider", "key", "tenant", "service", "task", "tier", "day"])
def test_lines_add_up_to_the_total_to_the_last_decimal(config: Path, by: str) -> None:
    answer = json.loads(run(config, "--by", by, "--json"))
    table = list(csv.DictReader(io.StringIO(run(config, "--by", by, "--csv"))))
    assert len(table) == len(answer["lines"]) > 1 or by == "service"
    for name, total in answer["total"].items():
        if name.startswith("failed") and by in ("task", "tier"):
            assert {line[name] for line in answer["lines"]} == {None}
            continue
        assert sum(Decimal(line[name]) for line in answer["lines"]) == Decimal(total), name
        assert sum(Decimal(line[name]) for line in table) == Decimal(total), name
    assert answer["total"]["cost_usd"] == "1000.000210005"
    assert answer["total"]["requests"] == 5
    assert answer["total"]["failed_attempts_usd"] == "0.00000007"
    assert (answer["baseline_models"], answer["reference_models"]) == (["o1"], ["gpt-5"])


def test_the_table_shows_what_there_is(config: Path) -> None:
    shown = run(config, "--by", "model")
    head, *lines = [line.split() for line in shown.splitlines() if line.strip()][1:]
    assert " ".join(head).startswith("model requests tokens in out cost $ baseline $ saved $ % gpt-5 $ saved $ %")
    assert [line[0] for line in lines[:4]] == ["openai/big", "openai/small", "(no", "vllm/small"]
    total = next(line for line in lines if line[0] == "total")
    assert total[1:7] == ["5", "4,000", "400", "1000.000210005", "0.063000", "-999.937210005"]
    assert "unpriced" in shown
    assert "failed attempts" in shown
    assert "baseline: the same usage at o1" in shown
    empty = run(config, "--since", "2020-01-01", "--until", "2020-01-02")
    assert "unpriced" not in empty
    assert "energy" not in empty


def test_a_tenant_has_only_its_own(config: Path) -> None:
    answer = json.loads(run(config, "--by", "tenant", "--tenant", "=evil()", "--json"))
    assert [line["tenant"] for line in answer["lines"]] == ["=evil()"]
    assert answer["total"]["cost_usd"] == "0.000000003"
    assert answer["total"]["failed_attempts"] == 0
    nobody = json.loads(run(config, "--tenant", "", "--json"))
    assert nobody["total"]["requests"] == 1


def test_a_name_is_no_formula_in_a_sheet(config: Path) -> None:
    names = [line["tenant"] for line in csv.DictReader(io.StringIO(run(config, "--by", "tenant", "--csv")))]
    assert "'=evil()" in names


def test_days_are_in_their_order(config: Path) -> None:
    days = [line["day"] for line in json.loads(run(config, "--by", "day", "--json"))["lines"]]
    assert days == ["2026-11-21", "2026-11-22"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("7d", NOW - timedelta(days=7)),
        ("90m", NOW - timedelta(minutes=90)),
        ("2w", NOW - timedelta(weeks=2)),
        ("2026-11-01", datetime(2026, 11, 1, tzinfo=UTC)),
        ("2026-11-01T12:00+02:00", datetime(2026, 11, 1, 10, tzinfo=UTC)),
    ],
)
def test_moments(text: str, expected: datetime) -> None:
    assert moment(text, NOW) == expected


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--since", "yesterday"], "must be"),
        (["--since", "999999w"], "must be"),
        (["--by", "colour"], "must be one of"),
        (["--csv", "--json"], "--csv or --json"),
        (["--since", "2026-01-02", "--until", "2026-01-01"], "before"),
    ],
)
def test_what_cannot_be_asked_is_said(config: Path, options: Sequence[str], says: str) -> None:
    result = CliRunner().invoke(app, ["report", "-c", str(config), *options])
    assert result.exit_code == 2
    assert says in result.output


def test_a_ledger_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    path = tmp_path / "aion.yaml"
    path.write_text(f"telemetry: {{db_path: {tmp_path / 'none.db'}}}\n")
    result = CliRunner().invoke(app, ["report", "-c", str(path)])
    assert result.exit_code == 2
    assert "there is no ledger at" in result.output
    assert not (tmp_path / "none.db").exists()


def test_stats_are_the_same_figures(config: Path) -> None:
    ledger = Ledger(config.with_name("aion.db"))
    report = ledger.report(NOW_MS - 7 * 24 * HOUR_MS, NOW_MS, "model", Scope())
    stats: dict[str, Any] = stats_answer("7d", report).model_dump()
    told = json.loads(run(config, "--by", "model", "--json"))
    assert stats["total"]["cost_nano"] == int(Decimal(told["total"]["cost_usd"]) * 10**9)
    assert [line["name"] for line in stats["lines"]] == [line["model"] for line in told["lines"]]
    for name in ("requests", "input_tokens", "unpriced_requests", "estimated_requests", "failed_attempts"):
        assert stats["total"][name] == told["total"][name]
    assert stats["total"]["mean_latency_ms"] == pytest.approx(4 * 12.345 / 5)
    assert stats["total"]["energy_high_joules"] == float(told["total"]["energy_high_joules"]) == 299.997
    ledger.close()


def test_a_caller_is_told_of_its_own_and_of_nobody_elses(tmp_path: Path) -> None:
    """Each report, by each grouping; its tenant's, or where it has none its own."""
    ledger = Ledger(tmp_path / "aion.db")
    of = {"acme-key": ("acme", 1), "other-key": ("other", 20), "alone": ("", 300), "alone-too": ("", 4000)}
    for name, (tenant, cost) in of.items():
        mine = replace(SMALL, request_id=name, at_ms=1000, key_name=name, tenant=tenant, model=name, cost_nano=cost)
        ledger.add([mine, AttemptRow(name, 1, 1000, "p", name, 503, "e", 1.0, cost, name, tenant)])
    ledger.close()
    keys = [
        {"digest": hashlib.sha256(name.encode()).hexdigest(), "rules": {"name": name, "tenant": tenant}}
        for name, (tenant, _) in of.items()
    ]
    with api(tmp_path, auth={"enabled": True, "keys": keys}) as running:
        for name, (_, cost) in of.items():

            def get(path: str, name: str = name, **asked: str) -> tuple[Any, str]:
                answer = running.http.get(path, params={"range": "all", **asked}, headers={"x-api-key": name})
                return answer.json(), answer.text

            for by in get_args(By):
                stats, text = get("/aion/v1/stats", by=by)
                total = stats["total"]
                assert (total["cost_nano"], total["failed_attempts_cost_nano"], total["requests"]) == (cost, cost, 1)
                assert not [other for other in of if other != name and f'"{other}"' in text]
            assert get("/aion/v1/metrics/savings")[0]["total_cost_nano"] == cost
            assert get("/aion/v1/metrics/costs")[0]["total_cost_nano"] == cost
            routing, text = get("/aion/v1/metrics/routing")
            assert (routing["total_requests"], [one["model"] for one in routing["by_model"]]) == (1, [name])
