"""What each signal adds: turns of one author, judged by a model that was trained on the others.

    python -m aion_extproc.classify.training.ablation
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import orjson
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression  # type: ignore[import-untyped]
from sklearn.pipeline import make_pipeline  # type: ignore[import-untyped]
from sklearn.preprocessing import StandardScaler  # type: ignore[import-untyped]

from aion_extproc.classify.classification import Mode, Thresholds
from aion_extproc.classify.classifier import Classifier
from aion_extproc.classify.model import Model
from aion_extproc.classify.signals import WEIGHTS
from aion_extproc.classify.text_model import TextModel
from aion_extproc.classify.training import text
from aion_extproc.classify.training.examples import TURNS, turns
from aion_extproc.classify.training.scenes import body
from aion_extproc.wire.reading import conversation
from aion_extproc.wire.request import parse

Floats = NDArray[np.float64]
MODES: Final[tuple[Mode, ...]] = ("seed", "learned")


class Judged:
    """Turns of authors that the text model did not see: (n, 7) signals, (n,) tiers, authors, scores by mode."""

    def __init__(self) -> None:
        gain = Model.load().gain
        everything = turns()
        signals: list[list[float]] = []
        tiers: list[int] = []
        authors: list[str] = []
        self.scores: dict[Mode, list[float]] = {mode: [] for mode in MODES}
        for author in TURNS:
            others = {head: [e for e in load() if e.author != author] for head, load in text.HEADS.items()}
            learned = Classifier(Model(TextModel.of(text.train(others)), gain))
            for name, turn in everything:
                if name != author:
                    continue
                format, sent = body(turn, 0)
                said = conversation(parse(orjson.dumps(sent), format))
                for mode in MODES:
                    found = learned.using(mode).classify(said)
                    self.scores[mode].append(found.score)
                signals.append([found.signals[name] for name in WEIGHTS])
                tiers.append(turn.tier)
                authors.append(author)
        self.signals: Floats = np.array(signals)
        self.tiers = np.array(tiers)
        self.authors = np.array(authors)

    def learnable(self, columns: Sequence[int]) -> float:
        """Exact tiers of a logistic regression over some signals, each author judged by what fits the others."""
        right = 0
        for author in TURNS:
            out = self.authors == author
            model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
            model.fit(self.signals[~out][:, columns], self.tiers[~out])
            right += int(np.sum(model.predict(self.signals[out][:, columns]) == self.tiers[out]))
        return right / len(self.tiers)

    def exact(self, mode: Mode) -> float:
        """Exact tiers of a mode, at the default thresholds."""
        found = [Thresholds().tier(score) for score in self.scores[mode]]
        return float(np.mean(np.array(found) == self.tiers))


def main() -> None:
    judged = Judged()
    print(f"{len(judged.tiers)} turns, each author's judged by a model that was trained on the others'")
    for mode in MODES:
        print(f"{'mode ' + mode:<44}{judged.exact(mode):.3f}")
    every = list(range(len(WEIGHTS)))
    print(f"{'all seven signals, fitted':<44}{judged.learnable(every):.3f}")
    for place, name in enumerate(WEIGHTS):
        rest = [column for column in every if column != place]
        print(f"{'  without ' + name:<44}{judged.learnable(rest):.3f}")
        print(f"{'  ' + name + ' alone':<44}{judged.learnable([place]):.3f}")


if __name__ == "__main__":
    main()
