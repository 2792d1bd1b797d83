"""Evaluations and calibrations as tables for people."""

from __future__ import annotations

from collections.abc import Sequence

from rich.markup import escape
from rich.table import Table

from aion_extproc.accounting.cost import NANO_PER_USD
from aion_extproc.evaluation.baselines import OURS
from aion_extproc.evaluation.calibrate import Choice, Frontier
from aion_extproc.evaluation.data import Outcomes
from aion_extproc.evaluation.evaluate import Evaluation
from aion_extproc.evaluation.ledger_costs import Saving
from aion_extproc.evaluation.measures import EQUAL_QUALITY, Interval, Point

SHOWN = 16  # rows of a curve
NONE = "–"


def rankings(found: Evaluation) -> Table:
    """A row for each ranking."""
    by_groups = any(measures.by_groups is not None for measures in found.rankings.values())
    columns = ["APGR", "95 % by rows", *(["95 % by groups"] if by_groups else []), "CPT(50 %)", "CPT(80 %)", "AUC"]
    columns += [f"saved at {share:.0%} quality" for share in EQUAL_QUALITY]
    table = _table("ranked by", columns)
    table.caption = _cost_caption(found.outcomes)
    for name, measures in found.rankings.items():
        groups = [_interval(measures.by_groups)] if by_groups else []
        table.add_row(
            name,
            _figure(measures.apgr),
            _interval(measures.by_rows),
            *groups,
            _share(measures.cpt50),
            _share(measures.cpt80),
            _figure(measures.auc),
            *(_share(measures.saved[share]) for share in EQUAL_QUALITY),
            style="bold" if name == OURS else None,
        )
    return table


def points(found: Evaluation) -> Table:
    """Where always-weak, always-strong and the configured thresholds are."""
    unit = found.outcomes.unit
    table = _table("router", ["calls to strong", "quality", "chance's", "PGR", _cost_name(unit), "saved"])
    low, middle, high = (f"{share:.1%}" for share in found.tier_shares)
    table.caption = (
        f"thresholds {found.thresholds.tier1:g} and {found.thresholds.tier2:g}: {low} of the lines are tier 1, {middle}"
        f" tier 2, {high} tier 3; chance's: the quality of as many calls to strong, chosen at random"
    )
    weak, strong = found.points["always weak"].quality, found.points["always strong"].quality
    for name, point in found.points.items():
        chance = weak + point.shares[-1] * (strong - weak)
        figures = [_share(point.shares[-1]), _figure(point.quality), _figure(chance), _figure(point.pgr)]
        table.add_row(name, *figures, _cost(point.cost, unit), _share(point.saved))
    return table


def groups(found: Evaluation) -> Table:
    """APGR in each group."""
    table = _table("group", ["lines", "weak", "strong", *(f"APGR {name}" for name in found.rankings)])
    table.caption = f"{NONE}: the strong model is no better in this group"
    for name, group in found.groups.items():
        figures = (_figure(group.apgr[ranking]) for ranking in found.rankings)
        table.add_row(escape(name), f"{group.rows:,}", _figure(group.weak), _figure(group.strong), *figures)
    return table


def calibration(frontier: Frontier, points: Sequence[tuple[int, Point]], chosen: Choice, outcomes: Outcomes) -> Table:
    """Some points of the curve by their index, the chosen one marked."""
    table = _table("", ["tier1", "tier2", *outcomes.models, "quality", "lost", _cost_name(outcomes.unit), "saved"])
    table.caption = _cost_caption(outcomes)
    for index, point in points:
        mine = index == chosen.index
        table.add_row(
            "→" if mine else "",
            f"{frontier.tier1[index]:.6g}",
            f"{frontier.tier2[index]:.6g}",
            *(_share(share) for share in point.shares),
            _figure(point.quality),
            _share(point.loss),
            _cost(point.cost, outcomes.unit),
            _share(point.saved),
            style="bold" if mine else None,
        )
    return table


def savings(found: Sequence[Saving], shown: Sequence[int], chosen: int) -> Table:
    """Some thresholds of the ledger's by their index, the chosen ones marked."""
    table = _table("", ["tier1", "tier2", "on tier 1", "tier 2", "tier 3", "cost $", "saved"])
    table.caption = "saved: of what the same tokens cost on tier 3"
    for index in shown:
        saving = found[index]
        table.add_row(
            "→" if index == chosen else "",
            f"{saving.thresholds.tier1:.4g}",
            f"{saving.thresholds.tier2:.4g}",
            *(_share(share) for share in saving.shares),
            f"{saving.nano / NANO_PER_USD:.6f}",
            _share(saving.saved),
            style="bold" if index == chosen else None,
        )
    return table


def spread(saved: Sequence[float], chosen: int) -> list[int]:
    """The indices to show of a curve: about SHOWN, evenly by what is saved, its ends and the chosen one among them."""
    if len(saved) <= SHOWN:
        return list(range(len(saved)))
    low, high = min(saved), max(saved)
    wanted = [low + (high - low) * step / (SHOWN - 1) for step in range(SHOWN)]
    nearest = {min(range(len(saved)), key=lambda index: abs(saved[index] - value)) for value in wanted}
    return sorted({*nearest, chosen})


def _table(first: str, columns: Sequence[str]) -> Table:
    table = Table(box=None, pad_edge=False, title_justify="left", caption_justify="left")
    table.add_column(first, no_wrap=True)
    for name in columns:
        table.add_column(escape(name), justify="right")
    return table


def _cost_name(unit: str) -> str:
    return "$ for 1,000" if unit == "USD" else "calls to strong"


def _cost_caption(outcomes: Outcomes) -> str:
    return "saved: of always-strong's " + ("dollars" if outcomes.unit == "USD" else "calls, for there are no costs")


def _cost(value: float, unit: str) -> str:
    return f"{1000 * value:.4f}" if unit == "USD" else _share(value)


def _figure(value: float | None) -> str:
    return NONE if value is None else f"{value:.3f}"


def _share(value: float | None) -> str:
    return NONE if value is None else f"{value:.1%}"


def _interval(interval: Interval | None) -> str:
    return NONE if interval is None else f"{interval.low:.3f} to {interval.high:.3f}"
