"""How well the gain is told on subjects that were left out of the training: the figures of docs/classifier.md.

    python -m aion_extproc.classify.training.subjects graded.jsonl
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from aion_extproc.classify.training import gain
from aion_extproc.evaluation.curve import apgr
from aion_extproc.evaluation.data import read_rows
from aion_extproc.evaluation.measures import bootstrap

SEEDS = (0, 1, 2)
BINS = 5


def main(path: Path) -> None:
    rows, _ = read_rows(path.read_bytes().splitlines(), print)
    questions = gain.Questions(rows)
    lengths = np.array(
        [len(row.conversation.turns[-1].texts[0]) for row in rows if (row.group or "") not in gain.LEFT_OUT], float
    )
    pooled, single = [], []
    for seed in SEEDS:
        found = gain.held_out(questions, seed)
        pooled.append(apgr(found, questions.gain))
        single += [apgr(found[out], questions.gain[out]) for out in questions.folds(seed)]
    interval = bootstrap({"gain": found}, questions.gain, 1000, 0)["gain"]
    by_group = bootstrap({"gain": found}, questions.gain, 1000, 0, [str(group) for group in questions.groups])["gain"]
    print(f"{len(questions.gain)} questions of {len(set(questions.groups))} subjects, each subject unseen once a seed")
    print("APGR, all subjects together:", ", ".join(f"{value:.3f}" for value in pooled if value is not None))
    print(f"  95 % by rows {interval}, by subjects {by_group}")
    values = [value for value in single if value is not None]
    print(f"  a fifth of the subjects at a time: {np.mean(values):.3f}, from {min(values):.3f} to {max(values):.3f}")
    print(f"length alone: {apgr(lengths, questions.gain):.3f}")
    slope, level = np.polyfit(found, questions.gain, 1)
    edges = np.quantile(found, np.linspace(0, 1, BINS + 1))
    place = np.clip(np.searchsorted(edges, found, side="right") - 1, 0, BINS - 1)
    for fifth in range(BINS):
        chosen = place == fifth
        said = float(np.mean(level + slope * found[chosen]))
        print(f"  predicted gain {said:.3f}, measured {np.mean(questions.gain[chosen]):.3f}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
