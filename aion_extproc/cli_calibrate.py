"""`aion calibrate`."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from aion_extproc.accounting.cost import NANO_PER_USD
from aion_extproc.classify.classification import Thresholds
from aion_extproc.cli_eval import (
    ConfigOption,
    JsonOption,
    PlotOption,
    classifier_of,
    drawn,
    err,
    print_json,
    read,
    require_extra,
    settings_of,
    stop,
    tell_of_tasks,
    thresholds_of,
    wide,
)
from aion_extproc.config.errors import ConfigError

if TYPE_CHECKING:
    from rich.table import Table

    from aion_extproc.catalog.model import Model
    from aion_extproc.config.schema import Settings
    from aion_extproc.evaluation.ledger_costs import Costs


def calibrate(
    data: Annotated[Path | None, typer.Option(help='JSON lines: {"prompt", "scores", "cost_usd"}')] = None,
    ledger: Annotated[str | None, typer.Option(help="the gateway's database: a file or postgresql://…")] = None,
    target_savings: Annotated[str | None, typer.Option(help='at least, of always-strong\'s cost: "60%"')] = None,
    max_quality_loss: Annotated[str | None, typer.Option(help='at most, of always-strong\'s quality: "1%"')] = None,
    models: Annotated[str | None, typer.Option(help="two or three, from weak to strong, with commas")] = None,
    since: Annotated[str, typer.Option(help='of the ledger: "30d", "24h" ago, or a date or time of UTC')] = "30d",
    plot: PlotOption = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Choose the thresholds that save so much, or lose no more than so much, and show what they are chosen from."""
    require_extra("calibrate", plot)
    if (data is None) == (ledger is None):
        raise typer.BadParameter("give --data or --ledger", param_hint="--data")
    savings = _share(target_savings, "--target-savings")
    loss = _share(max_quality_loss, "--max-quality-loss")
    if (savings is None) == (loss is None):
        raise typer.BadParameter("give --target-savings or --max-quality-loss", param_hint="--target-savings")
    names = () if models is None else tuple(name.strip() for name in models.split(","))
    if models is not None and (len(names) not in (2, 3) or len(set(names)) < len(names) or not all(names)):
        raise typer.BadParameter("must be two or three models, from weak to strong: a,b,c", param_hint="--models")
    settings = settings_of(config)
    if data is not None:
        _from_rows(data, settings, names, savings, loss, plot, as_json)
        return
    assert ledger is not None
    if savings is None:
        stop(
            "a ledger has what requests cost, and not yet how good the answers were: it has no table of feedback, so it"
            " cannot say what is lost; give --target-savings, or --data with scores"
        )
    if settings is None:
        stop("a ledger is priced by the configuration's models: name it with -c aion.yaml")
    _from_ledger(ledger, since, settings, names, savings, plot, as_json)


def _from_rows(
    data: Path,
    settings: Settings | None,
    names: tuple[str, ...],
    savings: float | None,
    loss: float | None,
    plot: Path | None,
    as_json: bool,
) -> None:
    from aion_extproc.evaluation import calibrate as calibration
    from aion_extproc.evaluation import tables
    from aion_extproc.evaluation.baselines import routing_scores
    from aion_extproc.evaluation.data import DataError, choose_three, outcomes
    from aion_extproc.evaluation.evaluate import point_json

    rows, bad = read(data, names)
    try:
        chosen_models, how = (names, "as named") if names else choose_three(rows)
        results = outcomes(rows, chosen_models, how)
    except DataError as error:
        stop(str(error))
    score = routing_scores([row.conversation for row in rows], classifier_of(settings))
    found = calibration.frontier(score, results)
    configured = thresholds_of(settings)
    target: calibration.Target = "quality loss" if savings is None else "savings"
    value = savings if savings is not None else (loss or 0.0)
    choice = calibration.choose(found, score, results, target, value)
    now = calibration.decided(score, results, configured)
    strong_cost, strong_quality = float(results.cost[-1].mean()), float(results.quality[-1].mean())
    shown = tables.spread([1 - cost / strong_cost for cost in found.cost], choice.index)
    points = [
        (
            index,
            calibration.decided(score, results, Thresholds(float(found.tier1[index]), float(found.tier2[index]))),
        )
        for index in shown
    ]
    if plot is not None:
        from aion_extproc.evaluation import plots

        line = (1 - value) * (strong_cost if target == "savings" else strong_quality)
        drawn(plot, lambda path: plots.calibration(found, choice, now, results, (target, line), path))
    if as_json:
        print_json(
            {
                "rows": len(rows),
                "bad_lines": bad,
                "models": list(results.models),
                "chosen_by": results.chosen_by,
                "unit": results.unit,
                "notes": list(results.notes),
                **_json_head(target, value, choice.met, choice.thresholds),
                "chosen": point_json(choice.point),
                "configured": {"tier1": configured.tier1, "tier2": configured.tier2, **point_json(now)},
                "curve": [
                    {"tier1": float(found.tier1[index]), "tier2": float(found.tier2[index]), **point_json(point)}
                    for index, point in points
                ],
            }
        )
    else:
        first = f"{len(rows):,} lines, weak to strong: {', '.join(results.models)} ({results.chosen_by})"
        more = (
            f"{len(found.cost):,} of {found.looked_at:,} thresholds are not beaten by others in both cost and quality"
        )
        if found.thinned:
            more += f" (of cuts that are even in lines: there are more than {calibration.MOST_CUTS:,} scores)"
        _show([first, more], tables.calibration(found, points, choice, results))
    tell_of_tasks(settings)
    for note in results.notes:
        err.print(f"[yellow]note:[/] {escape(note)}")
    _finish(target, value, choice.met, _best(target, choice.point.saved, choice.point.loss), choice.thresholds, as_json)
    if bad:
        raise typer.Exit(1)


def _from_ledger(
    target: str,
    since: str,
    settings: Settings,
    names: tuple[str, ...],
    savings: float,
    plot: Path | None,
    as_json: bool,
) -> None:
    from aion_extproc.evaluation import ledger_costs, tables

    tiers = _tiers(settings, names)
    costs = _costs(target, since, tiers)
    configured = thresholds_of(settings)
    try:
        found = ledger_costs.savings(costs, configured)
    except ValueError as error:
        stop(str(error))
    chosen, met = ledger_costs.choose(found, savings)
    saving = found[chosen]
    shown = tables.spread([one.saved for one in found], chosen)
    if plot is not None:
        from aion_extproc.evaluation import plots

        drawn(plot, lambda path: plots.savings(found, chosen, configured, savings, path))
    models = [[f"{model.provider}/{model.id}" for model in tier] for tier in tiers]
    if as_json:
        curve: list[dict[str, Any]] = [
            {
                "tier1": found[index].thresholds.tier1,
                "tier2": found[index].thresholds.tier2,
                "tier_shares": list(found[index].shares),
                "cost_usd": found[index].nano / NANO_PER_USD,
                "saved": found[index].saved,
            }
            for index in shown
        ]
        print_json(
            {
                "requests": len(costs.score),
                "models": models,
                **_json_head("savings", savings, met, saving.thresholds),
                "chosen": curve[shown.index(chosen)],
                "curve": curve,
            }
        )
    else:
        listed = "; ".join(f"tier {tier}: {', '.join(of_tier) or 'none'}" for tier, of_tier in enumerate(models, 1))
        first = f"{len(costs.score):,} classified requests since {since}, each priced at the cheapest model of a tier"
        _show([first, listed], tables.savings(found, shown, chosen))
        tell_of_tasks(settings)
        err.print("[yellow]note:[/] the ledger does not say how good the answers were; these are costs alone")
    _finish("savings", savings, met, _best("savings", saving.saved, None), saving.thresholds, as_json)


def _tiers(settings: Settings, names: tuple[str, ...]) -> list[list[Model]]:
    """The priced chat models of tier 1, 2 and 3; those that are named instead, of which two are 1 and 3."""
    from aion_extproc.catalog.build import build

    try:
        models = [model for model in build(settings).models if model.mode == "chat"]
    except ConfigError as error:
        stop(str(error))
    if not names:
        return [[model for model in models if model.tier == tier and model.prices] for tier in (1, 2, 3)]
    found: list[list[Model]] = []
    for name in names:
        having = [model for model in models if name in (model.id, f"{model.provider}/{model.id}")]
        if not having:
            known = ", ".join(f"{model.provider}/{model.id}" for model in models)
            stop(f"no enabled model is called {name}; there are {known}")
        priced = [model for model in having if model.prices]
        if not priced:
            stop(f"the price of {name} is unknown; set input_price_per_1m and output_price_per_1m")
        found.append(priced)
    return found if len(found) == 3 else [found[0], [], found[1]]


def _costs(target: str, since: str, tiers: list[list[Model]]) -> Costs:
    from aion_extproc import report
    from aion_extproc.evaluation import ledger_costs
    from aion_extproc.stores.database import LedgerError, is_postgres
    from aion_extproc.stores.ledger import INT64_MAX, Ledger

    if not is_postgres(target) and not Path(target).is_file():
        stop(f"there is no ledger at {target}: it is made when the gateway first runs")
    if sum(map(bool, tiers)) < 2:
        stop("needs models with known prices on two tiers at least; without them there is nothing to choose between")
    try:
        moment = report.moment(since, datetime.now(UTC))
    except (ValueError, OverflowError):
        message = 'must be "30d", "24h", a date such as 2027-01-31 or a time such as 2027-01-31T12:00Z'
        raise typer.BadParameter(message, param_hint="--since") from None
    try:
        store = Ledger(target)
        try:
            costs = ledger_costs.costs(ledger_costs.pages(store, int(moment.timestamp() * 1000), INT64_MAX), tiers)
        finally:
            store.close()
    except LedgerError as error:
        stop(str(error))
    if costs is None:
        stop(f"the ledger has no classified and answered request since {since}")
    return costs


def _share(text: str | None, option: str) -> float | None:
    """A percentage as a share: "60%" is .6."""
    if text is None:
        return None
    found = re.fullmatch(r"\s*(\d{1,3}(?:\.\d+)?)\s*%\s*", text)
    if not found or float(found[1]) > 100:
        raise typer.BadParameter('must be a percentage from 0% to 100%, such as "60%"', param_hint=option)
    return float(found[1]) / 100


def _json_head(target: str, value: float, met: bool, thresholds: Thresholds) -> dict[str, Any]:
    return {
        "target": target,
        "target_value": value,
        "met": met,
        "tier1_threshold": thresholds.tier1,
        "tier2_threshold": thresholds.tier2,
    }


def _show(heads: list[str], table: Table) -> None:
    out = wide()
    for head in heads:
        out.print(head, markup=False)
    out.print("", table)


def _best(target: str, saved: float | None, loss: float | None) -> str:
    if target == "savings":
        return f"no thresholds save so much, the most is {saved or 0:.1%}"
    return f"no thresholds lose so little, the least is {loss or 0:.2%}"


def _finish(target: str, value: float, met: bool, otherwise: str, thresholds: Thresholds, as_json: bool) -> None:
    """The YAML to paste; or exit 1, saying the best that there is."""
    at = f"at {thresholds.tier1:g} and {thresholds.tier2:g}"
    if not met:
        err.print(f"[red]aion:[/] {target} of {value * 100:g}% cannot be met: {otherwise}, {at}")
        raise typer.Exit(1)
    if as_json:
        return
    out = wide()
    out.print("\nrouting:\n  classifier:", markup=False)
    out.print(f"    tier1_threshold: {thresholds.tier1!r}\n    tier2_threshold: {thresholds.tier2!r}", markup=False)
