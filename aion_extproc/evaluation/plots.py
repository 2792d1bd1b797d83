"""Curves as PNG files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from aion_extproc.classify.classification import Thresholds
from aion_extproc.evaluation.baselines import OURS
from aion_extproc.evaluation.calibrate import Choice, Frontier
from aion_extproc.evaluation.data import Outcomes
from aion_extproc.evaluation.evaluate import Evaluation
from aion_extproc.evaluation.ledger_costs import Saving
from aion_extproc.evaluation.measures import Point

# Of the colours that are told apart by people who see fewer of them (Okabe and Ito).
_LINES = {
    OURS: ("#0072b2", "-", 2.4),
    "seed": ("#56b4e9", "-", 1.4),
    "length": ("#e69f00", "-", 1.4),
    "keywords": ("#009e73", "-", 1.4),
    "random": ("#777777", "--", 1.2),
    "oracle": ("#cc79a7", ":", 1.6),
}
_BLUE, _RED, _GREY = "#0072b2", "#d55e00", "#777777"


def evaluation(found: Evaluation, path: Path) -> None:
    """Quality over cost for every ranking, and where the configured thresholds are. Raises OSError."""
    figure, axes = _axes()
    for name, measures in found.rankings.items():
        colour, dashes, width = _LINES[name]
        area = "" if measures.apgr is None else f" (APGR {measures.apgr:.3f})"
        axes.plot(
            measures.curve.cost, measures.curve.quality, dashes, color=colour, linewidth=width, label=f"{name}{area}"
        )
    _ends(axes, found.outcomes)
    for marker, name in (("v", "tier 2 to weak"), ("^", "tier 2 to strong")):
        at = found.points[name]
        axes.plot(at.cost, at.quality, marker, color=_RED, markersize=8, label=f"thresholds, {name}", zorder=5)
    axes.set_title(f"what each ranking is worth, on {found.rows:,} lines")
    _label(axes, found.outcomes)
    _save(figure, axes, path)


def calibration(
    found: Frontier, chosen: Choice, configured: Point, outcomes: Outcomes, line: tuple[str, float], path: Path
) -> None:
    """The curve, the chosen point and the configured one. `line`: the target, "savings" and the mean cost that it
    allows or "quality loss" and the mean quality that it asks for. Raises OSError."""
    figure, axes = _axes()
    axes.plot(found.cost, found.quality, "-", color=_BLUE, linewidth=2, label="best thresholds")
    ends = [float(outcomes.cost[0].mean()), float(outcomes.cost[-1].mean())]
    qualities = [float(outcomes.quality[0].mean()), float(outcomes.quality[-1].mean())]
    axes.plot(ends, qualities, "--", color=_GREY, linewidth=1.2, label="at random")
    _ends(axes, outcomes)
    if len(outcomes.models) > 2:
        axes.plot(outcomes.cost[1].mean(), outcomes.quality[1].mean(), "D", color="black", markersize=6)
        _name(axes, f"always {outcomes.models[1]}", float(outcomes.cost[1].mean()), float(outcomes.quality[1].mean()))
    draw = axes.axvline if line[0] == "savings" else axes.axhline
    draw(line[1], color=_RED, linewidth=1, linestyle=":", label=f"target: {line[0]}")
    axes.plot(configured.cost, configured.quality, "s", color=_GREY, markersize=8, label="configured now", zorder=5)
    t = chosen.thresholds
    label = f"chosen: {t.tier1:g}" + ("" if t.tier1 == t.tier2 else f" and {t.tier2:g}")
    axes.plot(chosen.point.cost, chosen.point.quality, "*", color=_RED, markersize=17, label=label, zorder=6)
    axes.set_title(f"what thresholds are worth, on {outcomes.quality.shape[1]:,} lines")
    _label(axes, outcomes)
    _save(figure, axes, path)


def savings(found: Sequence[Saving], chosen: int, configured: Thresholds, target: float, path: Path) -> None:
    """What is saved, and what share of the requests is on which tier, over the first threshold. Raises OSError."""
    figure, axes = _axes()
    x = [saving.thresholds.tier1 for saving in found]
    shares = list(zip(*(saving.shares for saving in found), strict=True))
    labels = ["on tier 1", "on tier 2", "on tier 3"]
    axes.stackplot(x, *shares, labels=labels, colors=["#cfe8f7", "#8fc3e3", "#4b8fbd"])
    axes.plot(x, [saving.saved for saving in found], "-", color="black", linewidth=2, label="saved")
    axes.axhline(target, color=_RED, linewidth=1, linestyle=":", label="target: savings")
    now = f"configured now: {configured.tier1:g} and {configured.tier2:g}"
    axes.axvline(configured.tier1, color=_GREY, linewidth=1.2, linestyle="--", label=now)
    at = found[chosen]
    label = f"chosen: {at.thresholds.tier1:g} and {at.thresholds.tier2:g}"
    axes.plot(at.thresholds.tier1, at.saved, "*", color=_RED, markersize=17, label=label, zorder=6)
    axes.set_xlim(0, 1)
    axes.set_ylim(min(0.0, *(saving.saved for saving in found)), 1)
    axes.set_xlabel("tier1_threshold (tier2_threshold moves along)")
    axes.set_ylabel("share of the requests; share of tier 3's cost saved")
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.set_title("what thresholds would have saved, from the ledger")
    _save(figure, axes, path)


def _axes() -> tuple[Figure, Axes]:
    figure = Figure(figsize=(9, 6), layout="constrained")
    return figure, figure.add_subplot()


def _ends(axes: Axes, outcomes: Outcomes) -> None:
    for index, model in ((0, outcomes.models[0]), (-1, outcomes.models[-1])):
        x, y = float(outcomes.cost[index].mean()), float(outcomes.quality[index].mean())
        axes.plot(x, y, "o", color="black", markersize=7, zorder=4)
        _name(axes, f"always {model}", x, y, left=index == -1)


def _name(axes: Axes, text: str, x: float, y: float, left: bool = False) -> None:
    place, side = ((4, 10), "right") if left else ((8, -14), "left")
    axes.annotate(text, (x, y), place, textcoords="offset points", ha=side, fontsize=9, parse_math=False)


def _label(axes: Axes, outcomes: Outcomes) -> None:
    if outcomes.unit == "USD":
        axes.set_xlabel("cost of 1,000 requests in USD")
        axes.xaxis.set_major_formatter(lambda usd, _: f"{1000 * usd:.4g}")
    else:
        axes.set_xlabel(f"share of calls to {outcomes.models[-1]}", parse_math=False)
        axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.set_ylabel("mean quality")


def _save(figure: Figure, axes: Axes, path: Path) -> None:
    axes.margins(y=0.08)
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right", fontsize=9, framealpha=0.9)
    figure.savefig(path, format="png", dpi=150)
