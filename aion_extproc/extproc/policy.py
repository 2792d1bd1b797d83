"""Everything that an exchange needs to know, made once from the settings and never changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

from aion_extproc.accounting.allowances import Limits
from aion_extproc.accounting.cost import NANO_PER_USD
from aion_extproc.accounting.facts import Facts
from aion_extproc.catalog.catalog import Catalog
from aion_extproc.catalog.model import Model
from aion_extproc.classify.classification import Thresholds
from aion_extproc.classify.classifier import Classifier
from aion_extproc.config.schema import Settings
from aion_extproc.extproc.callers import Callers, Keyring, model_limits
from aion_extproc.gateway.spec import cluster_name
from aion_extproc.providers import Provider, configure
from aion_extproc.routing.candidates import Tables
from aion_extproc.routing.chains import PinnedChain, PinnedStep
from aion_extproc.routing.health import Health
from aion_extproc.routing.sessions import Rules, Sessions
from aion_extproc.routing.strategies import STRATEGIES, Strategy
from aion_extproc.routing.task_tiers import TierBounds


@dataclass(frozen=True, slots=True)
class Policy:
    generation: int
    catalog: Catalog
    tables: Tables
    providers: Mapping[str, Provider]
    revisions: Mapping[str, int]  # of their clusters, gateway.spec.cluster_name
    classifier: Classifier
    thresholds: Thresholds
    task_tiers: Mapping[str, TierBounds]
    strategy: Strategy
    fallback_enabled: bool
    prefer_native: bool
    health: Health
    sessions: Sessions
    session_rules: Rules
    callers: Callers
    model_limits: Mapping[tuple[str, str], Limits]  # by (provider, model id)
    assumed_output_tokens: int  # of a request that sets no limit, for what is reserved
    budgets_fail_open: bool  # when nobody can say what is left
    limits_fail_open: bool
    max_body_bytes: int
    usage: Literal["envoy", "ext_proc"]
    exact_json_cost: bool
    worker_open_requests: int
    worker_open_bytes: int
    first_byte_timeout: float  # seconds that a stream may take to begin where another model stands by
    answer_timeout: float  # the same for a JSON answer, which begins when all of it is written

    def cluster(self, provider: str) -> str:
        """Envoy's cluster for requests that are ready to be sent there."""
        return cluster_name(provider, self.revisions.get(provider, 0))


@dataclass(slots=True)
class Policies:
    """The one that decides now, and all that are known by generation: those before it, for what they have decided,
    and the one that is to come."""

    current: Policy
    known: Mapping[int, Policy] = field(default_factory=dict)

    def of(self, facts: Facts) -> Policy:
        """What decided it, if that is known still."""
        return self.known.get(facts.generation, self.current)

    @property
    def newest(self) -> Policy:
        """The one that is to come, where there is one."""
        return self.known[max(self.known)] if self.known else self.current


def make_policy(
    settings: Settings,
    catalog: Catalog,
    classifier: Classifier,
    generation: int = 0,
    revisions: Mapping[str, int] = MappingProxyType({}),
    keyring: Keyring | None = None,
) -> Policy:
    """`keyring`: the keys of the store; None: there is none."""
    thresholds, sessions = settings.routing.classifier, settings.routing.sessions
    providers = make_providers(settings)
    # Envoy fetches Google's tokens in the public listener, not in the one of later attempts.
    only_first = frozenset(name for name, provider in providers.items() if provider.signing == "gcp")
    return Policy(
        generation=generation,
        catalog=catalog,
        tables=Tables(catalog, only_first, _chains(settings, catalog)),
        providers=providers,
        revisions=revisions,
        classifier=classifier.using(thresholds.mode),
        thresholds=Thresholds(thresholds.tier1_threshold, thresholds.tier2_threshold),
        task_tiers={
            task: TierBounds(task, found.min_tier, found.max_tier) for task, found in settings.routing.tasks.items()
        },
        strategy=STRATEGIES[settings.routing.strategy],
        fallback_enabled=settings.routing.fallback_enabled,
        prefer_native=settings.routing.prefer_native,
        health=Health(),
        sessions=Sessions(sessions.expire_after),
        session_rules=Rules(sessions.hysteresis, sessions.cache_lifetime, sessions.regeneration),
        callers=Callers(settings, catalog, providers, Keyring(version=1) if keyring is None else keyring),
        model_limits=model_limits(settings),
        assumed_output_tokens=settings.state.assumed_output_tokens,
        budgets_fail_open=settings.state.budgets_fail == "open",
        limits_fail_open=settings.state.limits_fail == "open",
        max_body_bytes=settings.gateway.max_body_bytes,
        usage=settings.gateway.usage,
        exact_json_cost=settings.gateway.json_cost == "exact",
        worker_open_requests=settings.gateway.worker_open_requests,
        worker_open_bytes=settings.gateway.worker_open_bytes,
        first_byte_timeout=settings.gateway.first_byte_timeout,
        answer_timeout=settings.gateway.answer_timeout,
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


def _chains(settings: Settings, catalog: Catalog) -> tuple[PinnedChain, ...]:
    """The pinned chains, with the models that are not switched off."""

    def models(id: str, provider: str | None) -> tuple[Model, ...]:
        return tuple(m for m in catalog.models if m.id == id and provider in (None, m.provider))

    return tuple(
        PinnedChain(
            number,
            chain.match.model,
            chain.match.tier,
            tuple(
                PinnedStep(
                    models(step.model, step.provider),
                    None if step.max_cost_usd is None else int(step.max_cost_usd * NANO_PER_USD),
                    step.max_first_byte,
                )
                for step in chain.steps
            ),
        )
        for number, chain in enumerate(settings.routing.chains, 1)
    )
