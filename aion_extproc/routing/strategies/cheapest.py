"""The lowest expected cost first."""

from __future__ import annotations

from collections.abc import Sequence

from aion_extproc.accounting.cost import cost_pico
from aion_extproc.accounting.usage import Usage
from aion_extproc.catalog.model import Model


def cheapest(models: Sequence[Model], expected: Usage) -> Sequence[Model]:
    """Local ones first, then by expected cost, unknown prices last; ties stay in config order."""
    if len(models) < 2:
        return models

    def key(model: Model) -> tuple[bool, bool, int]:
        prices = model.prices
        return not model.local, prices is None, 0 if prices is None else cost_pico(prices, expected)

    return sorted(models, key=key)
