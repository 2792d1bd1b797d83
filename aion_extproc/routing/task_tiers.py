"""Tiers by the kind of work: an operator who knows that extraction never needs the strong model can say so."""

from __future__ import annotations

from typing import Final, NamedTuple


class TierBounds(NamedTuple):
    """The tiers that a task may have."""

    task: str
    least: int = 1
    most: int = 3

    def within(self, tier: int) -> tuple[int, str]:
        """The nearest tier that the task may have, and why it is another one; "" where it is not."""
        if tier < self.least:
            return self.least, f"{self.task} has at least tier {self.least}"
        if tier > self.most:
            return self.most, f"{self.task} has at most tier {self.most}"
        return tier, ""


ANY_TIER: Final = TierBounds("")
