"""What the classifier says of a request."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Mode = Literal["learned", "seed"]


@dataclass(frozen=True, slots=True)
class Classification:
    """A score in [0, 1] with the seven signals that it is formed from."""

    score: float  # rounded to six digits, the same on every machine
    task: str  # one of classify.tasks.TASKS
    signals: Mapping[str, float]  # signal name → its value in [0, 1], before weighting
    weights: Mapping[str, float]  # signal name → its weight in the score
    reason: str  # a short text for X-AION-Reason, ASCII, no text of the request in it
    floored: bool  # the score is a floor: the turn plainly asks for so much, whatever the sum


@dataclass(frozen=True, slots=True)
class Thresholds:
    """score < tier1 → tier 1, ≤ tier2 → tier 2, above → tier 3."""

    tier1: float = 0.35
    tier2: float = 0.70

    def tier(self, score: float) -> int:
        if score < self.tier1:
            return 1
        return 2 if score <= self.tier2 else 3
