"""`aion eval`, and what it shares with `aion calibrate`."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer
from rich.console import Console
from rich.markup import escape

from aion_extproc.classify.classification import Thresholds
from aion_extproc.config.errors import ConfigError

if TYPE_CHECKING:
    from aion_extproc.classify.classifier import Classifier
    from aion_extproc.config.schema import Settings
    from aion_extproc.evaluation.data import Row

err = Console(stderr=True, highlight=False, soft_wrap=True)

PlotOption = Annotated[Path | None, typer.Option(help="a .png file, to which the curve is drawn")]
ConfigOption = Annotated[Path | None, typer.Option("--config", "-c", help="aion.yaml, which has the thresholds")]
JsonOption = Annotated[bool, typer.Option("--json", help="with all figures, unrounded")]


def evaluate(
    data: Annotated[Path, typer.Option(help='JSON lines: {"prompt", "scores", "cost_usd", "group"}')],
    strong: Annotated[str | None, typer.Option(help="a model of the lines; the one with the best mean score")] = None,
    weak: Annotated[
        str | None, typer.Option(help="another; the cheapest, or the worst where costs are missing")
    ] = None,
    by_group: Annotated[bool, typer.Option("--by-group", help="APGR in each group, too")] = False,
    samples: Annotated[int, typer.Option("--bootstrap", help="samples for the intervals; 0: none", min=0)] = 1000,
    seed: Annotated[int, typer.Option(help="of the bootstrap", min=0)] = 0,
    plot: PlotOption = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """How well the classifier's score tells which prompts need a strong model, from answers that were graded."""
    require_extra("eval", plot)
    from aion_extproc.evaluation import evaluate as evaluation
    from aion_extproc.evaluation import tables
    from aion_extproc.evaluation.data import DataError, choose_pair, outcomes

    settings = settings_of(config)
    rows, bad = read(data, [model for model in (strong, weak) if model is not None])
    try:
        best, other, how = choose_pair(rows, strong, weak)
        results = outcomes(rows, (other, best), how)
        found = evaluation.evaluate(rows, results, classifier_of(settings), thresholds_of(settings), samples, seed)
    except DataError as error:
        stop(str(error))
    if plot is not None:
        from aion_extproc.evaluation import plots

        drawn(plot, lambda path: plots.evaluation(found, path))
    if as_json:
        print_json(evaluation.as_json(found, bad, by_group))
    else:
        out = wide()
        out.print(f"{found.rows:,} lines, strong: {best}, weak: {other} ({how})\n", markup=False)
        out.print(tables.rankings(found), "", tables.points(found))
        if by_group and found.groups:
            out.print("", tables.groups(found))
    tell_of_tasks(settings)
    for note in found.notes:
        err.print(f"[yellow]note:[/] {escape(note)}")
    if by_group and not found.groups:
        err.print("[yellow]note:[/] not every line has a group, so there is nothing by group")
    if bad:
        raise typer.Exit(1)


def require_extra(command: str, plot: Path | None) -> None:
    """Stop unless the extra `train` is installed, and the plot's name is one."""
    missing = [name for name in ("numpy", *(["matplotlib"] if plot else [])) if find_spec(name) is None]
    if missing:
        stop(f"aion {command} needs {' and '.join(missing)}: pip install 'aion-extproc[train]'")
    if plot is not None and plot.suffix.lower() != ".png":
        raise typer.BadParameter("must end with .png", param_hint="--plot")


def settings_of(config: Path | None) -> Settings | None:
    """Of the named file or of ./aion.yaml; None: there is none."""
    from aion_extproc.config.load import load

    path = config or (Path("aion.yaml") if Path("aion.yaml").is_file() else None)
    try:
        return None if path is None else load(path)
    except ConfigError as error:
        err.print(str(error), markup=False)
        raise typer.Exit(2) from None


def thresholds_of(settings: Settings | None) -> Thresholds:
    if settings is None:
        return Thresholds()
    wanted = settings.routing.classifier
    return Thresholds(wanted.tier1_threshold, wanted.tier2_threshold)


def tell_of_tasks(settings: Settings | None) -> None:
    """What is measured goes by the thresholds alone."""
    if settings is not None and settings.routing.tasks:
        names = ", ".join(settings.routing.tasks)
        err.print(f"[yellow]note:[/] routing.tasks moves requests of {names} to other tiers; that is not counted here")


def classifier_of(settings: Settings | None) -> Classifier:
    """In the configured mode."""
    from aion_extproc.classify.classifier import Classifier

    classifier = Classifier.load()
    return classifier if settings is None else classifier.using(settings.routing.classifier.mode)


def read(data: Path, named: Sequence[str]) -> tuple[list[Row], int]:
    """The good lines that have scores of the `named` models, and how many were bad; each of those is reported."""
    from aion_extproc.evaluation.data import read_rows, without_score

    def report(text: str) -> None:
        err.print(text, markup=False)

    try:
        with data.open("rb") as file:
            rows, bad = read_rows(file, report)
    except OSError as error:
        stop(f"{data}: {error.strerror}")
    if not rows:
        stop(f"{data}: no good line")
    known = {model for row in rows for model in row.scores}
    for model in named:
        if model not in known:
            stop(f"no line has a score of {model}; there are {', '.join(sorted(known))}")
    lacking = without_score(rows, named)
    for text in lacking:
        report(text)
    kept = [row for row in rows if all(model in row.scores for model in named)]
    if not kept:
        stop(f"no line has scores of both {' and '.join(named)}")
    return kept, bad + len(lacking)


def drawn(path: Path, draw: Callable[[Path], None]) -> None:
    """Draw to the path, or stop."""
    try:
        draw(path)
    except OSError as error:
        stop(f"{path}: {error.strerror}")


def wide() -> Console:
    """As wide as it is: what is read by the next program must not be cut."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else 400)


def print_json(answer: object) -> None:
    sys.stdout.write(json.dumps(answer, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def stop(message: str) -> NoReturn:
    """Nothing can be said: exit 2."""
    err.print(f"[red]aion:[/] {escape(message)}")
    raise typer.Exit(2) from None
