"""Which models may serve a request: they speak its format, its tokens fit, they are healthy."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from aion_extproc.catalog.catalog import Catalog
from aion_extproc.catalog.model import Model
from aion_extproc.routing.health import Health
from aion_extproc.wire.format import Format

TIERS = (1, 2, 3)
Tiers = tuple[tuple[Model, ...], ...]  # by tier; [0] is empty, so that the index is the tier


class Tables:
    """The models of a catalogue sorted once by format and tier, so that a request only looks up."""

    def __init__(self, catalog: Catalog) -> None:
        self.catalog = catalog
        self.any: dict[Format, Tiers] = {f: _by_tier(catalog.models, f) for f in Format}
        self.local: dict[Format, Tiers] = {
            f: _by_tier([model for model in catalog.models if model.local], f) for f in Format
        }


def _by_tier(models: Iterable[Model], format: Format) -> Tiers:
    spoken = [model for model in models if format in model.formats]
    return ((), *(tuple(model for model in spoken if model.tier == tier) for tier in TIERS))


def fitting(models: Sequence[Model], tokens: int) -> Sequence[Model]:
    """Those whose context window holds input and answer together; an unknown window holds anything."""
    for model in models:
        if model.context_window is not None and tokens > model.context_window:
            return [m for m in models if m.context_window is None or tokens <= m.context_window]
    return models


def healthy(models: Sequence[Model], health: Health, now: float) -> Sequence[Model]:
    """Those that a request may go to now."""
    return [model for model in models if health.healthy(model.provider, model.id, now)]
