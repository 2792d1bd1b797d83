"""Tenants in the database: their limits, and their own keys at providers, sealed.

A tenant is there as soon as something of it is: a key, limits, or a provider's key.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Engine, or_, select

from aion_extproc.config.access import BudgetSettings, LimitSettings
from aion_extproc.config.values import Section
from aion_extproc.stores.database import snapshot
from aion_extproc.stores.keys_tables import Clock, Missing, change, keys, now_ms, provider_keys, tenants
from aion_extproc.stores.secrets import Vault, VaultError, hint


class TenantRules(Section):
    """What a tenant may use."""

    budget: BudgetSettings | None = None
    limits: LimitSettings | None = None


NO_RULES = TenantRules()


@dataclass(frozen=True, slots=True)
class StoredProviderKey:
    """That there is one, not which."""

    provider: str
    hint: str
    created_at_ms: int


@dataclass(frozen=True, slots=True)
class StoredTenant:
    id: str
    rules: TenantRules
    created_at_ms: int
    provider_keys: tuple[StoredProviderKey, ...]


class TenantStore:
    """The tenants that came by the admin API and by `aion tenants`."""

    def __init__(self, engine: Engine, vault: Vault, clock: Clock = now_ms) -> None:
        self._engine = engine
        self._vault = vault
        self._clock = clock

    def list(self) -> tuple[StoredTenant, ...]:
        """By their names."""
        with snapshot(self._engine) as connection:
            found = connection.execute(tenants.select().where(tenants.c.deleted.is_(False)).order_by(tenants.c.id))
            having = _provider_keys(connection)
            return tuple(_stored(row, having) for row in found.mappings())

    def find(self, tenant: str) -> StoredTenant:
        """Missing: there is no such tenant."""
        with snapshot(self._engine) as connection:
            return _found(connection, tenant)

    def put(self, tenant: str, rules: TenantRules) -> bool:
        """Give it these limits in place of those it has. True: it is new."""
        at_ms = self._clock()
        with change(self._engine) as (connection, version):
            new = ensure_tenant(connection, tenant, at_ms, version)
            text = rules.model_dump_json(exclude_defaults=True)
            connection.execute(tenants.update().where(tenants.c.id == tenant).values(rules=text))
            return new

    def delete(self, tenant: str) -> None:
        """Its provider keys go, its keys are revoked, its limits are forgotten. Missing: there is no such tenant."""
        at_ms = self._clock()
        with change(self._engine) as (connection, version):
            _found(connection, tenant)
            connection.execute(provider_keys.delete().where(provider_keys.c.tenant == tenant))
            living = or_(keys.c.revoked_at_ms.is_(None), keys.c.revoked_at_ms > at_ms)
            ended = keys.update().where(keys.c.tenant == tenant, living)
            connection.execute(ended.values(revoked_at_ms=at_ms, version=version))
            gone = tenants.update().where(tenants.c.id == tenant)
            connection.execute(gone.values(rules=_text(NO_RULES), deleted=True, version=version))

    def put_provider_key(self, tenant: str, provider: str, secret: str) -> bool:
        """Store its key at a provider, in place of one that is there. True: none was. VaultError: no master key."""
        sealed = self._vault.seal(secret, tenant, provider)
        at_ms = self._clock()
        with change(self._engine) as (connection, version):
            ensure_tenant(connection, tenant, at_ms, version)
            replaced = connection.execute(_provider_key(tenant, provider)).rowcount
            connection.execute(
                provider_keys.insert().values(
                    tenant=tenant, provider=provider, sealed=sealed, hint=hint(secret), created_at_ms=at_ms
                )
            )
            return not replaced

    def delete_provider_key(self, tenant: str, provider: str) -> None:
        """Missing: there is no such tenant, or it has no key there."""
        with change(self._engine) as (connection, version):
            _found(connection, tenant)
            if not connection.execute(_provider_key(tenant, provider)).rowcount:
                raise Missing(f"the tenant {tenant} has no key at {provider}")
            connection.execute(tenants.update().where(tenants.c.id == tenant).values(version=version))

    def reseal(self) -> tuple[int, Sequence[str]]:
        """Seal all provider keys with the first master key: how many were not, and those that could not be opened, as
        `tenant/provider: why`. VaultError: there is no master key."""
        if not self._vault.masters:
            raise VaultError(self._vault.problem)
        done, failed = 0, []
        with change(self._engine) as (connection, version):
            for row in connection.execute(provider_keys.select()).mappings().all():
                tenant, provider = row["tenant"], row["provider"]
                if self._vault.is_current(row["sealed"]):
                    continue
                try:
                    secret = self._vault.unseal(row["sealed"], tenant, provider)
                except VaultError as error:
                    failed.append(f"{tenant}/{provider}: {error}")
                    continue
                sealed = self._vault.seal(secret.get_secret_value(), tenant, provider)
                mine = (provider_keys.c.tenant == tenant) & (provider_keys.c.provider == provider)
                connection.execute(provider_keys.update().where(mine).values(sealed=sealed))
                connection.execute(tenants.update().where(tenants.c.id == tenant).values(version=version))
                done += 1
        return done, failed


def ensure_tenant(connection: Connection, tenant: str, at_ms: int, version: int) -> bool:
    """Have it be there, and count as changed. True: it was not there."""
    found = connection.execute(select(tenants.c.deleted).where(tenants.c.id == tenant))
    deleted: bool | None = found.scalar_one_or_none()
    if deleted is None:
        new = {"rules": _text(NO_RULES), "created_at_ms": at_ms, "deleted": False, "version": version}
        connection.execute(tenants.insert().values(id=tenant, **new))
        return True
    values: dict[str, Any] = {"version": version}
    if deleted:
        values |= {"created_at_ms": at_ms, "deleted": False}
    connection.execute(tenants.update().where(tenants.c.id == tenant).values(**values))
    return deleted


def tenant_rules(row: Any) -> TenantRules:
    """From a row of the table. ValueError: they are none."""
    return TenantRules.model_validate_json(row["rules"])


def _text(rules: TenantRules) -> str:
    return rules.model_dump_json(exclude_defaults=True)


def _found(connection: Connection, tenant: str) -> StoredTenant:
    found = connection.execute(tenants.select().where(tenants.c.id == tenant, tenants.c.deleted.is_(False)))
    row = found.mappings().one_or_none()
    if row is None:
        raise Missing(f"there is no tenant {tenant}")
    return _stored(row, _provider_keys(connection, tenant))


def _stored(row: Any, having: dict[str, list[StoredProviderKey]]) -> StoredTenant:
    return StoredTenant(row["id"], tenant_rules(row), row["created_at_ms"], tuple(having.get(row["id"], ())))


def _provider_keys(connection: Connection, tenant: str | None = None) -> dict[str, list[StoredProviderKey]]:
    query = provider_keys.select().order_by(provider_keys.c.tenant, provider_keys.c.provider)
    if tenant is not None:
        query = query.where(provider_keys.c.tenant == tenant)
    having: dict[str, list[StoredProviderKey]] = {}
    for row in connection.execute(query).mappings():
        one = StoredProviderKey(row["provider"], row["hint"], row["created_at_ms"])
        having.setdefault(row["tenant"], []).append(one)
    return having


def _provider_key(tenant: str, provider: str) -> Any:
    """The statement that takes it away."""
    return provider_keys.delete().where(provider_keys.c.tenant == tenant, provider_keys.c.provider == provider)
