"""`aion report`: what was spent and saved, as a table for people, or as CSV or JSON with exact decimals.

Every column of CSV and JSON is a figure that can be added up: the lines give the total, to the last decimal.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from rich.table import Table

from aion_extproc.accounting.cost import usd
from aion_extproc.stores.database import LedgerError, is_postgres
from aion_extproc.stores.ledger import Ledger
from aion_extproc.stores.report import By, Line, Report
from aion_extproc.stores.report_sums import Sums
from aion_extproc.stores.scope import Scope

_AGO = {"m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1), "w": timedelta(weeks=1)}
_MJ_PER_WH = 3_600_000
_NAMELESS = {"model": "(no model)", "provider": "(no provider)", "key": "(no key)", "task": "(unclassified)"}

_SUMS: tuple[tuple[str, Callable[[Sums], int | str]], ...] = (
    ("requests", lambda of: of.requests),
    ("input_tokens", lambda of: of.input_tokens),
    ("output_tokens", lambda of: of.output_tokens),
    ("cache_read_tokens", lambda of: of.cache_read_tokens),
    ("cache_write_tokens", lambda of: of.cache_write_tokens),
    ("reasoning_tokens", lambda of: of.reasoning_tokens),
    ("cost_usd", lambda of: usd(of.cost_nano)),
    ("compared_requests", lambda of: of.compared),
    ("compared_cost_usd", lambda of: usd(of.compared_cost_nano)),
    ("baseline_usd", lambda of: usd(of.baseline_nano)),
    ("saved_usd", lambda of: usd(of.saved_nano)),
    ("reference_requests", lambda of: of.referred),
    ("reference_cost_usd", lambda of: usd(of.referred_cost_nano)),
    ("reference_usd", lambda of: usd(of.reference_nano)),
    ("reference_saved_usd", lambda of: usd(of.reference_saved_nano)),
    ("unpriced_requests", lambda of: of.unpriced),
    ("estimated_requests", lambda of: of.estimated),
    ("energy_requests", lambda of: of.metered),
    ("energy_low_joules", lambda of: _thousandths(of.energy_low_mj)),
    ("energy_high_joules", lambda of: _thousandths(of.energy_high_mj)),
    ("latency_seconds", lambda of: f"{of.latency_us // 10**6}.{of.latency_us % 10**6:06}"),
)


@dataclass(frozen=True, slots=True)
class Asked:
    """A report that was asked for; `since` and `until` in UTC."""

    since: datetime
    until: datetime
    by: By
    tenant: str | None


def moment(text: str, now: datetime) -> datetime:
    """So long before now ("7d", "24h", "2w", "90m"), or a date (its first moment in UTC), or a time. Raises ValueError.
    """
    ago = re.fullmatch(r"\s*(\d{1,6})\s*([mhdw])\s*", text)
    if ago:
        return now - int(ago[1]) * _AGO[ago[2]]
    found = datetime.fromisoformat(text)
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)


def read(target: str, asked: Asked) -> Report:
    """Raises LedgerError."""
    if not is_postgres(target) and not Path(target).is_file():
        raise LedgerError(f"there is no ledger at {target}: it is made when the gateway first runs")
    ledger = Ledger(target)
    try:
        return ledger.report(_ms(asked.since), _ms(asked.until), asked.by, Scope(tenant=asked.tenant))
    finally:
        ledger.close()


def as_csv(report: Report) -> str:
    """A line for each name and no total, so that a sheet adds it up itself."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([report.by, *(name for name, _ in _SUMS), "failed_attempts", "failed_attempts_usd"])
    for line in report.lines:
        # A sheet would take such a name for a formula; a leading apostrophe is how one says text.
        name = f"'{line.name}" if line.name.startswith(("=", "+", "-", "@", "\t", "\r")) else line.name
        writer.writerow([name, *_figures(line).values()])
    return text.getvalue()


def as_json(report: Report, asked: Asked) -> str:
    return json.dumps(
        {
            "since": asked.since.isoformat(),
            "until": asked.until.isoformat(),
            "by": report.by,
            "tenant": asked.tenant,
            "baseline_models": report.baseline_models,
            "reference_models": report.reference_models,
            "lines": [{report.by: line.name, **_figures(line)} for line in report.lines],
            "total": _figures(report.total),
        },
        indent=2,
        ensure_ascii=False,
    )


def _figures(line: Line) -> dict[str, int | str | None]:
    """By their names. None: attempts cannot be told apart like that."""
    figures: dict[str, int | str | None] = {name: figure(line.sums) for name, figure in _SUMS}
    figures["failed_attempts"] = None if line.failed is None else line.failed.attempts
    figures["failed_attempts_usd"] = None if line.failed is None else usd(line.failed.cost_nano)
    return figures


def as_table(report: Report, asked: Asked) -> Table:
    """What is nowhere is left out: the named baseline, energy, failed attempts, requests without a price."""
    total = report.total
    columns: list[tuple[str, Callable[[Line], str]]] = [
        ("requests", lambda line: f"{line.sums.requests:,}"),
        ("tokens in", lambda line: f"{line.sums.input_tokens:,}"),
        ("out", lambda line: f"{line.sums.output_tokens:,}"),
        ("cost $", lambda line: usd(line.sums.cost_nano)),
        ("baseline $", lambda line: usd(line.sums.baseline_nano)),
        ("saved $", lambda line: usd(line.sums.saved_nano)),
        ("%", lambda line: _percent(line.sums.saved_nano, line.sums.baseline_nano)),
    ]
    if total.sums.referred:
        named = ", ".join(report.reference_models)
        columns += [
            (f"{named} $", lambda line: usd(line.sums.reference_nano)),
            ("saved $", lambda line: usd(line.sums.reference_saved_nano)),
            ("%", lambda line: _percent(line.sums.reference_saved_nano, line.sums.reference_nano)),
        ]
    if total.sums.metered:
        columns.append(("energy Wh", lambda line: _watt_hours(line.sums)))
    if total.sums.unpriced:
        columns.append(("unpriced", lambda line: f"{line.sums.unpriced:,}"))
    if total.sums.estimated:
        columns.append(("estimated", lambda line: f"{line.sums.estimated:,}"))
    if total.failed is not None and total.failed.attempts:
        columns.append(("failed attempts", lambda line: "" if line.failed is None else f"{line.failed.attempts:,}"))
        columns.append(("their $, estimated", lambda line: "" if line.failed is None else usd(line.failed.cost_nano)))

    table = Table(box=None, pad_edge=False, show_footer=True, title_justify="left", caption_justify="left")
    table.title = f"{_shown(asked.since)} to {_shown(asked.until)} UTC" + (
        "" if asked.tenant is None else f", tenant {asked.tenant or '(none)'}"
    )
    if report.baseline_models:
        table.caption = f"baseline: the same usage at {', '.join(report.baseline_models)}"
    table.add_column(report.by, "total")
    for name, shown in columns:
        table.add_column(name, shown(total), justify="right", no_wrap=True)
    for line in report.lines:
        name = line.name or _NAMELESS.get(report.by, f"(no {report.by})")
        table.add_row(name, *(shown(line) for _, shown in columns))
    return table


def _ms(moment: datetime) -> int:
    return int(moment.timestamp()) * 1000 + moment.microsecond // 1000


def _shown(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%d %H:%M")


def _thousandths(value: int) -> str:
    return f"{value // 1000}.{value % 1000:03}"


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f}" if whole else ""


def _watt_hours(of: Sums) -> str:
    low, high = of.energy_low_mj / _MJ_PER_WH, of.energy_high_mj / _MJ_PER_WH
    return f"{low:.3g} to {high:.3g}" if of.metered else ""
