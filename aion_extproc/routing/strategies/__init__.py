"""In which order the models of a tier are tried: a function a strategy, by its name in the config."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from aion_extproc.accounting.usage import Usage
from aion_extproc.catalog.model import Model
from aion_extproc.routing.strategies.cheapest import cheapest
from aion_extproc.routing.strategies.fallback import fallback

Strategy = Callable[[Sequence[Model], Usage], Sequence[Model]]

STRATEGIES: Mapping[str, Strategy] = {"cheapest": cheapest, "fallback": fallback}
