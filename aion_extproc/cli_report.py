"""`aion report`."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, cast, get_args

import typer
from rich.console import Console
from rich.markup import escape

from aion_extproc.config.errors import ConfigError

err = Console(stderr=True, highlight=False, soft_wrap=True)


def report(
    since: Annotated[str, typer.Option(help='"7d", "24h" ago, or a date or time of UTC')] = "7d",
    until: Annotated[str | None, typer.Option(help="the same, and not part of it; now")] = None,
    by: Annotated[str, typer.Option(help="model, provider, key, tenant, service, task, tier or day")] = "model",
    tenant: Annotated[str | None, typer.Option(help='only this one\'s; "" for what has none')] = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="with exact decimals, for a sheet")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="with exact decimals")] = False,
    config: Annotated[Path | None, typer.Option("--config", "-c", help="aion.yaml, which names the database")] = None,
) -> None:
    """What was spent and saved, from the ledger."""
    from aion_extproc import report as reports
    from aion_extproc.config.load import load
    from aion_extproc.config.schema import Settings
    from aion_extproc.stores.database import LedgerError
    from aion_extproc.stores.report import By

    if by not in get_args(By):
        raise typer.BadParameter(f"must be one of {', '.join(get_args(By))}", param_hint="--by")
    if as_csv and as_json:
        raise typer.BadParameter("give --csv or --json", param_hint="--csv")
    now = datetime.now(UTC)
    moments = {"--since": since, "--until": until or now.isoformat()}
    found: dict[str, datetime] = {}
    for option, text in moments.items():
        try:
            found[option] = reports.moment(text, now)
        except (ValueError, OverflowError):
            message = 'must be "7d", "24h", a date such as 2027-01-31 or a time such as 2027-01-31T12:00Z'
            raise typer.BadParameter(message, param_hint=option) from None
    if found["--since"] >= found["--until"]:
        raise typer.BadParameter("must be before --until", param_hint="--since")
    asked = reports.Asked(found["--since"], found["--until"], cast(By, by), tenant)
    path = config or (Path("aion.yaml") if Path("aion.yaml").is_file() else None)
    try:
        settings = Settings() if path is None else load(path)
        answer = reports.read(settings.telemetry.target, asked)
    except (ConfigError, LedgerError) as error:
        err.print(f"[red]aion:[/] {escape(str(error))}")
        raise typer.Exit(2) from None
    if as_csv:
        sys.stdout.write(reports.as_csv(answer))
    elif as_json:
        sys.stdout.write(reports.as_json(answer, asked) + "\n")
    else:
        # As wide as it is: what is read by the next program must not be cut.
        wide = Console(highlight=False, markup=False, width=None if sys.stdout.isatty() else 400)
        wide.print(reports.as_table(answer, asked))
