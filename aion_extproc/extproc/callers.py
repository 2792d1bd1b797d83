"""Who may call, what they may use, and how much: by the configuration and by the store of keys."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from aion_extproc.accounting.allowances import Budget, Limits, Scope
from aion_extproc.accounting.cost import NANO_PER_USD
from aion_extproc.catalog.allowed import allowed
from aion_extproc.catalog.catalog import Catalog
from aion_extproc.config.access import BudgetSettings, KeyRules, LimitSettings, TenantSettings
from aion_extproc.config.schema import Settings
from aion_extproc.providers import Provider
from aion_extproc.stores.keys import StoredKey
from aion_extproc.stores.keys_changes import Changes, TenantEntry
from aion_extproc.wire.errors import RequestError
from aion_extproc.wire.request import Request
from aion_extproc.wire.service_tier import asked_tier

MOST_REMEMBERED = 10_000  # callers; a trusted key may name any number of tenants
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_MOST_TAGS = 8
_Forbidden = frozenset[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Caller:
    """Whose key it was, and what follows from it."""

    key_name: str = ""
    tenant: str = ""
    service: str = ""
    tags: str = ""  # sorted, with commas between them
    trusted: bool = False
    valid_until: float = float("inf")  # UTC seconds
    forbidden: _Forbidden = frozenset()  # (provider, model id)
    unpriced: _Forbidden = frozenset()  # the models that no budget can hold; empty where there is no budget
    budgets: tuple[Budget, ...] = ()
    limits: tuple[Limits, ...] = ()
    providers: Mapping[str, Provider] | None = field(default=None, repr=False)  # None: as everybody's

    @property
    def limited(self) -> bool:
        return bool(self.budgets or self.limits)


ANYBODY = Caller()


class Keyring:
    """The keys and tenants of the store as a process knows them. `version` changes with them."""

    def __init__(self, version: int = 0) -> None:
        self.version = version  # 0: nothing was read yet
        self.keys: dict[bytes, StoredKey] = {}
        self.tenants: dict[str, TenantEntry] = {}

    def apply(self, news: Changes) -> None:
        if news.complete:
            self.keys.clear()
            self.tenants.clear()
        for digest in news.gone:
            self.keys.pop(digest, None)
        self.keys |= {key.digest: key for key in news.keys}
        for name, entry in news.tenants.items():
            if entry is None:
                self.tenants.pop(name, None)
            else:
                self.tenants[name] = entry
        self.version = news.version


class Callers:
    """The callers of one configuration. `providers`: the enabled ones with everybody's keys."""

    def __init__(
        self, settings: Settings, catalog: Catalog, providers: Mapping[str, Provider], keyring: Keyring
    ) -> None:
        self._settings = settings
        self._catalog = catalog
        self._providers = providers
        self._keyring = keyring
        self.open = not settings.auth.enabled  # everybody may call
        self._rules = {digest_of(entry.key.get_secret_value()): entry.rules for entry in settings.auth.keys}
        self._known: dict[tuple[bytes, str, str, str], Caller] = {}
        self._known_at = keyring.version
        self._named: dict[str, KeyRules] = {}  # by the key's name
        self._named_at = -1
        self._tenant_only = frozenset(
            name for name, entry in settings.enabled_providers.items() if entry.tenant_keys_only
        )

    def find(self, presented: str, headers: Mapping[str, str], now: float) -> Caller | None:
        """Whose key that is, with what a trusted caller says of itself in its headers; None: nobody's. `now`: UTC
        seconds. The look-up is by digest, so its time tells nothing of the key.

        RequestError: the headers name something that is no name, or nothing is known of the tenant yet.
        """
        if self.open:
            return ANYBODY
        if self._known_at != self._keyring.version:
            self._known.clear()
            self._known_at = self._keyring.version
        digest = digest_of(presented)
        caller = self._known.get((digest, "", "", "")) or self._made(digest, "", "", "")
        if caller is None or now >= caller.valid_until:
            return None
        if not caller.trusted:
            return self._known_enough(caller)
        # A key that belongs to a tenant stays there.
        tenant = "" if caller.tenant else headers.get("x-tenant-id", "")
        service = headers.get("x-aion-service", "")
        tags = headers.get("x-aion-tags", "")
        if not (tenant or service or tags):
            return self._known_enough(caller)
        said = (digest, _name("X-Tenant-ID", tenant), _name("X-AION-Service", service), _tags(tags))
        found = self._known.get(said) or self._made(*said)
        return None if found is None else self._known_enough(found)

    def _known_enough(self, caller: Caller) -> Caller:
        """RequestError: the store, which has not been read, may have limits and keys of its tenant."""
        if caller.tenant and not self.complete:
            raise RequestError("keys_unavailable", "The keys cannot be read at the moment.", status=503)
        return caller

    def budgets(self, scope: Scope, name: str) -> tuple[Budget, ...]:
        """Those of a key, a tenant or a service."""
        if scope == "tenant":
            return tuple(_budgets(scope, name, self._tenant(name).budget))
        if scope == "service":
            return tuple(_budgets(scope, name, self._of_service(name)))
        if self._named_at != self._keyring.version:
            stored = (key.rules for key in self._keyring.keys.values())
            self._named = {rules.name: rules for rules in (*stored, *self._rules.values())}
            self._named_at = self._keyring.version
        rules = self._named.get(name)
        return () if rules is None else tuple(_budgets(scope, name, rules.budget))

    @property
    def complete(self) -> bool:
        """Whether the store has been read: before that an unknown key may be one of its."""
        return self.open or self._keyring.version > 0

    def providers(self, tenant: str) -> Mapping[str, Provider]:
        """The providers that it may use, with the tenant's own keys where it has some."""
        if self.open:
            return self._providers
        if tenant and not self.complete:
            return {}
        own, unusable = self._own_keys(tenant), self._unusable(tenant)
        if not (own or unusable):
            return self._providers
        return {
            name: provider.with_key(own[name]) if name in own else provider
            for name, provider in self._providers.items()
            if name not in unusable
        }

    def _made(self, digest: bytes, tenant: str, service: str, tags: str) -> Caller | None:
        if tags:  # they may be others with each request, and the rest is the larger part
            caller = self._known.get((digest, tenant, service, "")) or self._made(digest, tenant, service, "")
            if caller is not None:
                caller = replace(caller, tags=_joined(caller.tags, tags))
        else:
            caller = self._untagged(digest, tenant, service)
        if caller is None:
            return None
        if len(self._known) >= MOST_REMEMBERED:
            self._known.clear()
        self._known[digest, tenant, service, tags] = caller
        return caller

    def _untagged(self, digest: bytes, tenant: str, service: str) -> Caller | None:
        rules, valid_until = self._rules.get(digest), float("inf")
        if rules is None:
            stored = self._keyring.keys.get(digest)
            if stored is None:
                return None
            rules = stored.rules
            if stored.valid_until_ms is not None:
                valid_until = stored.valid_until_ms / 1000
        elif rules.expires_at is not None:
            valid_until = rules.expires_at.timestamp()
        return self._caller(rules, tenant or rules.tenant, service or rules.service, valid_until)

    def _caller(self, rules: KeyRules, tenant: str, service: str, valid_until: float) -> Caller:
        of_tenant = self._tenant(tenant)
        of_service = self._of_service(service)
        budgets = (
            *_budgets("key", rules.name, rules.budget),
            *_budgets("tenant", tenant, of_tenant.budget),
            *_budgets("service", service, of_service),
        )
        limits = (*_limits("key", rules.name, rules.limits), *_limits("tenant", tenant, of_tenant.limits))
        unusable = self._unusable(tenant)
        forbidden = frozenset(
            (model.provider, model.id)
            for model in self._catalog.models
            if model.provider in unusable or not allowed(model, rules.models, rules.tiers)
        )
        unpriced = {(model.provider, model.id) for model in self._catalog.models if model.prices is None}
        return Caller(
            key_name=rules.name,
            tenant=tenant,
            service=service,
            tags=_joined(*rules.tags),
            trusted=rules.trusted,
            valid_until=valid_until,
            forbidden=forbidden,
            unpriced=frozenset(unpriced) if budgets else frozenset(),
            budgets=budgets,
            limits=limits,
            providers=providers if (providers := self.providers(tenant)) is not self._providers else None,
        )

    def _of_service(self, name: str) -> BudgetSettings | None:
        service = self._settings.services.get(name)
        return None if service is None else service.budget

    def _tenant(self, name: str) -> TenantSettings:
        """What the configuration says of a tenant, and over it what the store says."""
        configured = self._settings.tenants.get(name, _NO_TENANT)
        entry = self._keyring.tenants.get(name)
        if entry is None:
            return configured
        stored = entry.settings
        return TenantSettings(
            budget=stored.budget or configured.budget,
            limits=stored.limits or configured.limits,
            provider_keys={**configured.provider_keys, **stored.provider_keys},
        )

    def _own_keys(self, tenant: str) -> Mapping[str, str]:
        if not tenant:
            return _NO_KEYS
        return {name: key.get_secret_value() for name, key in self._tenant(tenant).provider_keys.items()}

    def _unusable(self, tenant: str) -> frozenset[str]:
        """Providers for which there is no key that this tenant may use."""
        entry = self._keyring.tenants.get(tenant)
        unreadable = entry.unreadable if entry is not None else frozenset[str]()
        own = self._own_keys(tenant).keys()
        # Where Envoy signs with our credentials, a tenant's key cannot take their place.
        signed = {name for name in own if name in self._providers and self._providers[name].signing is not None}
        return (self._tenant_only - own) | unreadable | signed


def closed_by_tier(caller: Caller, request: Request, catalog: Catalog) -> Caller:
    """The caller, without the models whose price at the service tier that is asked for nobody knows: no budget can hold
    it. Translated for another endpoint, a request asks for no tier."""
    tier = asked_tier(request.body, request.format)
    if not tier or not caller.budgets:
        return caller
    closed = {
        (model.provider, model.id)
        for model in catalog.models
        if request.endpoint in model.endpoints and model.prices_at(tier) is None
    }
    return replace(caller, unpriced=caller.unpriced | closed)


def check_allowed(request: Request, caller: Caller, catalog: Catalog) -> None:
    """RequestError: whatever was decided, it would be a model that this caller must not use."""
    resolved = catalog.resolve(request.model)
    asked = resolved.models
    if resolved.virtual is not None:
        least = 3 if resolved.virtual == "aion-escalate" else 1
        local = resolved.virtual == "aion-local"
        asked = tuple(model for model in catalog.models if model.tier >= least and (model.local or not local))
    left = [model for model in asked if (model.provider, model.id) not in caller.forbidden]
    if asked and not left:
        message = f"The key {caller.key_name} may not use {request.model[:64]}; GET /v1/models lists what it may use."
        raise RequestError("model_not_allowed", message, status=403, param="model")
    if asked and all((model.provider, model.id) in caller.unpriced for model in left):
        message = (
            f"The price of {request.model[:64]} is unknown, so no budget can hold it; "
            "ask whoever runs the gateway to set its prices."
        )
        raise RequestError("model_without_price", message, status=403, param="model")


_NO_TENANT = TenantSettings()
_NO_KEYS: Mapping[str, str] = MappingProxyType({})


def model_limits(settings: Settings) -> Mapping[tuple[str, str], Limits]:
    """Of all callers together, by (provider, model id)."""
    return {
        (name, model.id): replace(limits, name=f"{name}/{model.id}")
        for name, entry in settings.enabled_providers.items()
        for model in entry.models
        for limits in _limits("model", model.id, model.limits)
    }


def digest_of(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()


def _budgets(scope: Scope, name: str, settings: BudgetSettings | None) -> Iterator[Budget]:
    if settings is None:
        return
    downgrade = settings.on_limit == "downgrade"
    if settings.daily_limit_usd is not None:
        limit = int(settings.daily_limit_usd * NANO_PER_USD)
        yield Budget(scope, name, "day", limit, downgrade, settings.warn_at)
    if settings.monthly_limit_usd is not None:
        limit = int(settings.monthly_limit_usd * NANO_PER_USD)
        yield Budget(scope, name, "month", limit, downgrade, settings.warn_at)


def _limits(scope: Scope, name: str, settings: LimitSettings | None) -> Iterator[Limits]:
    if settings is not None:
        concurrent = settings.concurrent_requests
        yield Limits(scope, name, settings.requests_per_minute, settings.tokens_per_minute, concurrent)


def _name(header: str, value: str) -> str:
    if value and not _NAME.fullmatch(value):
        message = f"{header} must be a name of at most 64 letters, digits, dots, dashes or underscores."
        raise RequestError("invalid_header", message)
    return value


def _joined(*tags: str) -> str:
    """Each once, sorted; each of `tags` may be several with commas between them."""
    return ",".join(sorted({tag for some in tags for tag in some.split(",") if tag}))


def _tags(value: str) -> str:
    tags = [tag.strip() for tag in value.split(",") if tag.strip()]
    if len(tags) > _MOST_TAGS:
        raise RequestError("invalid_header", f"X-AION-Tags may have {_MOST_TAGS} tags.")
    return ",".join(_name("Each of X-AION-Tags", tag) for tag in tags)
