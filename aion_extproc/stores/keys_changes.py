"""What has changed of keys and tenants since a version: how the processes of a gateway keep up.

Each asks about once a second, from a thread. What it gets is plain data; decrypted keys of providers are in it and
nowhere else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import structlog
from pydantic import SecretStr
from sqlalchemy import Connection, Engine, and_, or_, select

from aion_extproc.config.access import TenantSettings
from aion_extproc.stores.database import snapshot
from aion_extproc.stores.keys import StoredKey, stored_key
from aion_extproc.stores.keys_tables import Clock, current_version, keys, now_ms, provider_keys, tenants
from aion_extproc.stores.secrets import Vault, VaultError
from aion_extproc.stores.tenants import tenant_rules

NEWS = "keys"  # what is told on the bus when something has changed

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class TenantEntry:
    """A tenant with its own keys at providers. Those of `unreadable` providers cannot be decrypted: nobody else's may
    take their place."""

    settings: TenantSettings
    unreadable: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Changes:
    """What is new at `version`. A key of `keys` is valid until its `valid_until_ms`, which may be over before the next
    change is told."""

    version: int
    complete: bool  # this is all there is: what was known before is to be forgotten
    keys: tuple[StoredKey, ...] = ()
    gone: tuple[bytes, ...] = ()  # digests of keys that are accepted no more
    tenants: Mapping[str, TenantEntry | None] = field(default_factory=dict)  # None: it is deleted


def changes(engine: Engine, vault: Vault | None, since: int, clock: Clock = now_ms) -> Changes:
    """All changes after the version `since`; everything, if that is 0 or of another database (more than there is).

    Without a `vault` tenants are left out. Raises sqlalchemy.exc.SQLAlchemyError when the database does not answer.
    """
    at_ms = clock()
    with snapshot(engine) as connection:
        version = current_version(connection)
        if version == since:
            return Changes(version, False)
        if version < since:
            since = 0
        found, gone = _keys(connection, since, at_ms)
        told = {} if vault is None else _tenants(connection, vault, since)
        return Changes(version, since == 0, found, gone, told)


def _keys(connection: Connection, since: int, at_ms: int) -> tuple[tuple[StoredKey, ...], tuple[bytes, ...]]:
    query = keys.select().where(keys.c.version > since)
    if since == 0:
        query = query.where(or_(keys.c.revoked_at_ms.is_(None), keys.c.revoked_at_ms > at_ms))
    found, gone = [], []
    for row in connection.execute(query).mappings():
        try:
            key = stored_key(row)
        except ValueError:  # without its text: pydantic's would have the rules in it
            log.error("key_refused", key=row["name"], reason="its rules cannot be read")
            gone.append(bytes(row["digest"]))
            continue
        if key.status(at_ms) == "active":
            found.append(key)
        else:
            gone.append(key.digest)
    return tuple(found), tuple(gone)


def _tenants(connection: Connection, vault: Vault, since: int) -> dict[str, TenantEntry | None]:
    changed = tenants.c.version > since
    if since == 0:
        changed = and_(changed, tenants.c.deleted.is_(False))
    found = connection.execute(tenants.select().where(changed)).mappings().all()
    owned = select(provider_keys).join(tenants, tenants.c.id == provider_keys.c.tenant).where(changed)
    opened: dict[str, dict[str, SecretStr]] = {}
    unreadable: dict[str, set[str]] = {}
    for row in connection.execute(owned).mappings():
        tenant, provider = row["tenant"], row["provider"]
        try:
            opened.setdefault(tenant, {})[provider] = vault.unseal(row["sealed"], tenant, provider)
        except VaultError as error:
            log.error("provider_key_unreadable", tenant=tenant, provider=provider, reason=str(error))
            unreadable.setdefault(tenant, set()).add(provider)
    entries: dict[str, TenantEntry | None] = {}
    for row in found:
        tenant = row["id"]
        if row["deleted"]:
            entries[tenant] = None
            continue
        rules = tenant_rules(row)
        settings = TenantSettings(budget=rules.budget, limits=rules.limits, provider_keys=opened.get(tenant, {}))
        entries[tenant] = TenantEntry(settings, frozenset(unreadable.get(tenant, ())))
    return entries
