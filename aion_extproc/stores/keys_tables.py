"""The tables of keys and tenants, and the rules of changing them.

Every change counts the one `version` of them all up, and does so first: whoever has counted holds the lock until the
change is committed. So changes come one after another, on SQLite and on Postgres, and a reader who has seen version N
has seen everything that bears N or less.

Keys are never deleted, only revoked, and a deleted tenant leaves its name, so that whoever asks what has changed since
is told of them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Connection,
    Engine,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    select,
)

from aion_extproc.stores.database import exclusive

NAME_LIMIT = 64  # characters, config.values.Name

metadata = MetaData()

access_version = Table(
    "access_version",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),  # 1: there is one row
    Column("version", BigInteger, nullable=False),
)

keys = Table(
    "keys",
    metadata,
    Column("digest", LargeBinary(32), primary_key=True),  # SHA-256 of the key
    Column("name", String(NAME_LIMIT), nullable=False),
    Column("tenant", String(NAME_LIMIT), nullable=False),  # that of the rules
    Column("hint", String(8), nullable=False),  # the key's last characters
    Column("rules", Text, nullable=False),  # config.access.KeyRules in JSON
    Column("created_at_ms", BigInteger, nullable=False),
    Column("revoked_at_ms", BigInteger),  # may lie ahead, after a rotation
    Column("version", BigInteger, nullable=False),
)
Index("keys_version", keys.c.version)
_current = keys.c.revoked_at_ms.is_(None)
Index("keys_current_name", keys.c.name, unique=True, sqlite_where=_current, postgresql_where=_current)

tenants = Table(
    "tenants",
    metadata,
    Column("id", String(NAME_LIMIT), primary_key=True),
    Column("rules", Text, nullable=False),  # stores.tenants.TenantRules in JSON
    Column("created_at_ms", BigInteger, nullable=False),
    Column("deleted", Boolean, nullable=False),
    Column("version", BigInteger, nullable=False),  # of the last change of it or of its provider keys
)
Index("tenants_version", tenants.c.version)

provider_keys = Table(
    "tenant_provider_keys",
    metadata,
    Column("tenant", String(NAME_LIMIT), primary_key=True),
    Column("provider", String(NAME_LIMIT), primary_key=True),
    Column("sealed", Text, nullable=False),  # stores.secrets.Vault
    Column("hint", String(8), nullable=False),
    Column("created_at_ms", BigInteger, nullable=False),
)

Clock = Callable[[], int]


def now_ms() -> int:
    return time.time_ns() // 1_000_000


class AccessError(Exception):
    """A change that cannot be made; the message is for who asked for it."""


class Invalid(AccessError):
    """It makes no sense."""


class Conflict(AccessError):
    """It is there already, or is not what it would have to be."""


class Missing(AccessError):
    """There is no such thing."""


@contextmanager
def change(engine: Engine) -> Iterator[tuple[Connection, int]]:
    """A transaction that changes something, with the version that it makes. Nothing happens if it raises."""
    with exclusive(engine) as connection:
        connection.execute(access_version.update().values(version=access_version.c.version + 1))
        yield connection, current_version(connection)


def current_version(connection: Connection) -> int:
    return int(connection.execute(select(access_version.c.version)).scalar_one())
