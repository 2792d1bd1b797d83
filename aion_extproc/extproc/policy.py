"""Everything that an exchange needs to know, made once from the settings and never changed."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from aion_extproc.catalog.catalog import Catalog
from aion_extproc.classify.classification import Thresholds
from aion_extproc.classify.classifier import Classifier
from aion_extproc.config.schema import Settings
from aion_extproc.providers import Provider, configure
from aion_extproc.routing.candidates import Tables
from aion_extproc.routing.health import Health
from aion_extproc.routing.strategies import STRATEGIES, Strategy


@dataclass(frozen=True, slots=True)
class Caller:
    """Whose key it was."""

    key_name: str = ""
    tenant: str = ""


ANYBODY = Caller()


@dataclass(frozen=True, slots=True)
class Policy:
    catalog: Catalog
    tables: Tables
    providers: Mapping[str, Provider]
    classifier: Classifier
    thresholds: Thresholds
    strategy: Strategy
    fallback_enabled: bool
    prefer_native: bool
    health: Health
    callers: Mapping[bytes, Caller] | None  # SHA-256 of a key → whose; None: everybody may call
    max_body_bytes: int
    usage: Literal["envoy", "ext_proc"]
    exact_json_cost: bool

    def caller(self, key: str) -> Caller | None:
        """Whose key this is; None: nobody's. The look-up is by digest, so its time tells nothing of the key."""
        if self.callers is None:
            return ANYBODY
        return self.callers.get(hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest())


def make_policy(settings: Settings, catalog: Catalog, classifier: Classifier) -> Policy:
    thresholds = settings.routing.classifier
    return Policy(
        catalog=catalog,
        tables=Tables(catalog),
        providers=make_providers(settings),
        classifier=classifier,
        thresholds=Thresholds(thresholds.tier1_threshold, thresholds.tier2_threshold),
        strategy=STRATEGIES[settings.routing.strategy],
        fallback_enabled=settings.routing.fallback_enabled,
        prefer_native=settings.routing.prefer_native,
        health=Health(),
        callers=_callers(settings),
        max_body_bytes=settings.gateway.max_body_bytes,
        usage=settings.gateway.usage,
        exact_json_cost=settings.gateway.json_cost == "exact",
    )


def make_providers(settings: Settings) -> dict[str, Provider]:
    """The enabled providers by name."""
    providers = {}
    for name, entry in settings.enabled_providers.items():
        base_url = entry.base_url
        if entry.managed is not None:
            base_url = f"http://127.0.0.1:{entry.managed.port}/v1"
        key = entry.api_key.get_secret_value() if entry.api_key else None
        providers[name] = configure(name, entry.known_kind, base_url, key, entry.place)
    return providers


def _callers(settings: Settings) -> dict[bytes, Caller] | None:
    if not settings.auth.enabled:
        return None
    return {
        hashlib.sha256(entry.key.get_secret_value().encode()).digest(): Caller(entry.name, entry.tenant)
        for entry in settings.auth.keys
    }
