"""`aion train`: the classifier's model from labelled texts and graded answers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from aion_extproc.cli_eval import err, read, require_extra, stop


def train(
    data: Annotated[Path, typer.Option(help='graded answers, JSON lines: {"prompt", "scores", "group"}')],
    out: Annotated[Path, typer.Option(help="the model, a .json file")],
    source: Annotated[str, typer.Option(help="what the answers are and their licence, for its card")] = "unknown",
) -> None:
    """Train the classifier's model: words from the package's labelled texts, gain from graded answers."""
    require_extra("train", None)
    from aion_extproc.classify.training.train import digest
    from aion_extproc.classify.training.train import train as trained

    rows, bad = read(data, [])
    try:
        model, card = trained(rows, digest(data.read_bytes()), source)
    except ValueError as error:
        stop(str(error))
    try:
        out.write_bytes(model)
    except OSError as error:
        stop(f"{out}: {error.strerror}")
    err.print(f"{out}: {len(model):,} bytes from {len(rows):,} graded answers", markup=False)
    for name, score in card["scores"].items():
        err.print(f"  {name.replace('_', ' ')}: {score}", markup=False)
    if bad:
        raise typer.Exit(1)
