"""Which models may serve a request: they have its endpoint, its tokens fit, they are healthy."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from aion_extproc.catalog.catalog import Catalog
from aion_extproc.catalog.model import Model
from aion_extproc.routing.chains import PinnedChain
from aion_extproc.routing.health import Health
from aion_extproc.wire.endpoint import Endpoint

TIERS = (1, 2, 3)
Tiers = tuple[tuple[Model, ...], ...]  # by tier; [0] is empty, so that the index is the tier


# A request for a chat is translated where the model's provider speaks only the other format; tokens are estimated where
# it cannot count them. All other endpoints must be the provider's own.
_TALKS = frozenset({Endpoint.CHAT, Endpoint.MESSAGES})
_TRANSLATED = _TALKS | {Endpoint.COUNT_TOKENS}


def serves(model: Model, endpoint: Endpoint) -> bool:
    """Whether a request to this endpoint can be sent to the model, in one format or the other."""
    return not _TALKS.isdisjoint(model.endpoints) if endpoint in _TRANSLATED else endpoint in model.endpoints


def is_native(model: Model, endpoint: Endpoint) -> bool:
    """Whether nothing would have to be translated."""
    return endpoint in model.endpoints or (endpoint is Endpoint.COUNT_TOKENS and Endpoint.MESSAGES in model.endpoints)


class Tables:
    """The models of a catalogue sorted once by endpoint and tier, so that a request only looks up.

    `only_first`: providers whose models cannot stand by for others. `chains`: what the configuration pins.
    """

    def __init__(
        self, catalog: Catalog, only_first: frozenset[str] = frozenset(), chains: Sequence[PinnedChain] = ()
    ) -> None:
        self.catalog = catalog
        self.only_first = only_first
        self.chains = chains
        self.any: dict[Endpoint, Tiers] = {e: _by_tier(catalog.models, e) for e in Endpoint}
        self.local: dict[Endpoint, Tiers] = {
            e: _by_tier([model for model in catalog.models if model.local], e) for e in Endpoint
        }


def _by_tier(models: Iterable[Model], endpoint: Endpoint) -> Tiers:
    serving = [model for model in models if serves(model, endpoint)]
    return ((), *(tuple(model for model in serving if model.tier == tier) for tier in TIERS))


def fitting(models: Sequence[Model], tokens: int) -> Sequence[Model]:
    """Those whose context window holds input and answer together; an unknown window holds anything."""
    for model in models:
        if model.context_window is not None and tokens > model.context_window:
            return [m for m in models if m.context_window is None or tokens <= m.context_window]
    return models


def healthy(models: Sequence[Model], health: Health, now: float) -> Sequence[Model]:
    """Those that a request may go to now."""
    return [model for model in models if health.healthy(model.provider, model.id, now)]


def flaky(models: Sequence[Model], health: Health, now: float) -> Sequence[Model]:
    """Those that a request may go to where no healthy one is left."""
    return [model for model in models if health.flaky(model.provider, model.id, now)]


def degraded_last(models: Sequence[Model], health: Health, now: float) -> Sequence[Model]:
    """The same models; those that answer badly or slowly come after all others."""
    ill = [model for model in models if health.degraded(model.provider, model.id, now)]
    return [*(model for model in models if model not in ill), *ill] if ill else models
