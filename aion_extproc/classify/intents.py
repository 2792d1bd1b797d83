"""The kinds of request that the text model tells apart, and the tier that each asks for."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

CONFIRMATION: Final = "confirmation"  # asks for what the assistant proposed just before

# How much of the intent signal a prompt of this kind is worth in the seed's weighted sum. By itself the signal moves a
# bare prompt from 0.075 to 0.425, so what needs tier 2 must be near 1 and what does not must be near 0, with bonuses
# still to come.
COMPLEXITY: Final[Mapping[str, float]] = MappingProxyType(
    {
        "small_talk": 0.0,
        "lookup": 0.05,
        "mechanical": 0.05,
        "text": 0.20,
        "writing": 0.70,
        "explain": 0.90,
        "edit": 0.95,
        "analysis": 0.95,
        "debug": 0.95,
        "code": 0.95,
        "design": 1.0,
        "proof": 1.0,
    }
)

TIERS: Final[Mapping[str, int]] = MappingProxyType(
    {name: 1 if worth < 0.5 else 3 if worth == 1.0 else 2 for name, worth in COMPLEXITY.items()}
)
