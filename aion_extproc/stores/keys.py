"""Callers' keys in the database. A key itself is never there, only its SHA-256."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import Connection, Engine, or_

from aion_extproc.config.access import KeyRules
from aion_extproc.stores.keys_tables import Clock, Conflict, Invalid, Missing, change, keys, now_ms
from aion_extproc.stores.secrets import digest, hint, new_key
from aion_extproc.stores.tenants import ensure_tenant

LONGEST_OVERLAP_SECONDS = 30 * 86400

KeyStatus = Literal["active", "expired", "revoked"]


@dataclass(frozen=True, slots=True)
class StoredKey:
    """A key as it is in the database; times are milliseconds of UTC."""

    digest: bytes
    hint: str
    rules: KeyRules
    created_at_ms: int
    revoked_at_ms: int | None  # may lie ahead: it was rotated, and its successor is in use already

    @property
    def valid_until_ms(self) -> int | None:
        """From then on it is refused; None: not foreseen."""
        expires_at = self.rules.expires_at
        ends = [self.revoked_at_ms, None if expires_at is None else int(expires_at.timestamp() * 1000)]
        return min((end for end in ends if end is not None), default=None)

    def status(self, at_ms: int) -> KeyStatus:
        if self.revoked_at_ms is not None and self.revoked_at_ms <= at_ms:
            return "revoked"
        return "expired" if is_over(self.rules, at_ms) else "active"


class KeyStore:
    """The keys that were made by the admin API and by `aion keys`. Of one name there is one key at a time, and for
    a while its predecessor."""

    def __init__(self, engine: Engine, clock: Clock = now_ms) -> None:
        self._engine = engine
        self._clock = clock

    def create(self, rules: KeyRules) -> str:
        """A new key; nobody can be told it again. Conflict: the name is taken. Invalid: it has expired already."""
        at_ms = self._clock()
        if is_over(rules, at_ms):
            raise Invalid("the time of expires_at is over already")
        with change(self._engine) as (connection, version):
            current = _current(connection, rules.name)
            if current is not None:
                if not is_over(current.rules, at_ms):
                    raise Conflict(f"there is a key {rules.name} already; revoke it, rotate it, or take another name")
                _end(connection, rules.name, at_ms, version)
            if rules.tenant:
                ensure_tenant(connection, rules.tenant, at_ms, version)
            return _add(connection, rules, at_ms, version)

    def list(self) -> tuple[StoredKey, ...]:
        """All there are and were, oldest first."""
        with self._engine.connect() as connection:
            found = connection.execute(keys.select().order_by(keys.c.created_at_ms, keys.c.name))
            return tuple(stored_key(row) for row in found.mappings())

    def find(self, name: str) -> StoredKey:
        """The one that has this name now, expired or not. Missing: nobody."""
        with self._engine.connect() as connection:
            return _found(connection, name)

    def revoke(self, name: str) -> None:
        """Nobody gets in with it any more, nor with a predecessor. Missing: there is no such key."""
        at_ms = self._clock()
        with change(self._engine) as (connection, version):
            if not _end(connection, name, at_ms, version):
                raise Missing(f"there is no key {name}")

    def rotate(self, name: str, overlap_seconds: int = 0) -> str:
        """Another key under the same name and rules; the old one is accepted for `overlap_seconds` more.

        Missing: there is no such key. Conflict: it has expired, so a new one would be refused too. Invalid:
        the overlap is too long.
        """
        if not 0 <= overlap_seconds <= LONGEST_OVERLAP_SECONDS:
            raise Invalid(f"the overlap must be 0 to {LONGEST_OVERLAP_SECONDS} seconds (30 days)")
        at_ms = self._clock()
        with change(self._engine) as (connection, version):
            rules = _found(connection, name).rules
            if is_over(rules, at_ms):
                raise Conflict(f"the key {name} has expired; create a new one")
            _end(connection, name, at_ms + overlap_seconds * 1000, version)
            return _add(connection, rules, at_ms, version)


def is_over(rules: KeyRules, at_ms: int) -> bool:
    """Whether they have expired by then."""
    return rules.expires_at is not None and rules.expires_at.timestamp() * 1000 <= at_ms


def stored_key(row: Any) -> StoredKey:
    """From a row of the table. ValueError: its rules are none."""
    rules = KeyRules.model_validate_json(row["rules"])
    return StoredKey(bytes(row["digest"]), row["hint"], rules, row["created_at_ms"], row["revoked_at_ms"])


def _current(connection: Connection, name: str) -> StoredKey | None:
    found = connection.execute(keys.select().where(keys.c.name == name, keys.c.revoked_at_ms.is_(None)))
    row = found.mappings().one_or_none()
    return None if row is None else stored_key(row)


def _found(connection: Connection, name: str) -> StoredKey:
    current = _current(connection, name)
    if current is None:
        raise Missing(f"there is no key {name}")
    return current


def _end(connection: Connection, name: str, at_ms: int, version: int) -> int:
    """Have every key of that name end by then; how many did not before."""
    later = or_(keys.c.revoked_at_ms.is_(None), keys.c.revoked_at_ms > at_ms)
    ended = keys.update().where(keys.c.name == name, later).values(revoked_at_ms=at_ms, version=version)
    return connection.execute(ended).rowcount


def _add(connection: Connection, rules: KeyRules, at_ms: int, version: int) -> str:
    key = new_key()
    connection.execute(
        keys.insert().values(
            digest=digest(key),
            name=rules.name,
            tenant=rules.tenant,
            hint=hint(key),
            rules=rules.model_dump_json(exclude_defaults=True),
            created_at_ms=at_ms,
            revoked_at_ms=None,
            version=version,
        )
    )
    return key
