"""The database behind the ledger and the keys, a file of SQLite or PostgreSQL: opened, its schema brought up to date.

The schema's versions are files in migrations/versions, each named `r` and its number. A database that has the newest is
told so by one query; only otherwise is alembic loaded. Many processes start at once: one of them changes the schema
under a lock, in one transaction, the others wait for it.
"""

from __future__ import annotations

import random
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, inspect
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DatabaseError, DBAPIError, InternalError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.pool import ConnectionPoolEntry

BUSY_TIMEOUT_S = 5.0
MIGRATIONS = Path(__file__).with_name("migrations")
REVISIONS = tuple(sorted(file.stem[1:5] for file in (MIGRATIONS / "versions").glob("r[0-9]*.py")))
HEAD = REVISIONS[-1]
# What SQLite's file says of itself. 1 and 2 came before alembic; 3 keeps the aion that wrote those from writing here.
_FILE_VERSION = 3
_LOCK_KEY = 0x61696F6E  # of PostgreSQL's advisory locks: "aion"
_CONNECT_SECONDS = 3
# A server that is gone without a word is noticed in about this time, by psycopg's and the kernel's own means.
_SILENT_SECONDS = 10
_SCHEMES = ("postgresql://", "postgres://")

_migrating = threading.Lock()  # alembic keeps its context in a global


class LedgerError(Exception):
    """The database cannot be used; the message names it, without its password, and says why."""


class LedgerAway(LedgerError):
    """It cannot be used now, and may be later: it is not reached, locked, full, or being brought up to date."""


def connect(target: str, *, busy_timeout: float = BUSY_TIMEOUT_S) -> Engine:
    """The database at `target`, with the newest schema. A path of a file, whose directories are made, or
    `postgresql://…` as libpq takes it.

    `busy_timeout`: seconds that a statement of SQLite, or an open, waits for another process. Raises LedgerError when
    the database cannot be used or was written by a newer version, LedgerAway when only the moment is wrong.
    """
    name = describe(target)
    engine = _postgres(target) if is_postgres(target) else _sqlite(target, busy_timeout)
    try:
        _open(engine, name, busy_timeout)
    except Exception:
        engine.dispose()
        raise
    return engine


def is_postgres(target: str) -> bool:
    return target.startswith(_SCHEMES)


def describe(target: str) -> str:
    """A name of the database without its password."""
    if not is_postgres(target):
        return target
    import psycopg
    from psycopg.conninfo import conninfo_to_dict

    try:
        parts = conninfo_to_dict(target)
    except psycopg.Error:  # its words may hold a part of the password
        raise LedgerError("the ledger's URL cannot be read: postgresql://user:password@host:port/database") from None
    if any("@" in str(parts.get(key) or "") for key in ("host", "port", "dbname")):  # the end of a password
        raise LedgerError('the ledger\'s URL must have "@" and "/" in a user or password written as %40 and %2F')
    user, host, port = (str(parts[key]) if parts.get(key) else "" for key in ("user", "host", "port"))
    return f"postgresql://{user and user + '@'}{host}{port and ':' + port}/{parts.get('dbname') or ''}"


def outage(error: Exception) -> str | None:
    """What is wrong with the database, by an error of SQLAlchemy or a driver: the same may succeed later. None: nothing
    is, what was asked of it is wrong."""
    if isinstance(error, PoolTimeout):
        return "all connections are in use"
    cause = error.orig if isinstance(error, DBAPIError) else error
    if isinstance(cause, sqlite3.Error):
        asked = isinstance(
            cause, sqlite3.IntegrityError | sqlite3.DataError | sqlite3.ProgrammingError | sqlite3.InterfaceError
        )
    elif type(cause).__module__.startswith("psycopg"):
        import psycopg

        assert isinstance(cause, psycopg.Error)
        # Without a state it was psycopg that refused, and not the server: for a lost privilege or table, say.
        refused = isinstance(cause, psycopg.ProgrammingError | psycopg.NotSupportedError) and cause.sqlstate is None
        asked = refused or isinstance(cause, psycopg.DataError | psycopg.IntegrityError)
    else:
        return None
    return None if asked else " ".join(str(cause).split())


@contextmanager
def exclusive(engine: Engine) -> Iterator[Connection]:
    """A transaction that may write from its beginning on: SQLite's lock is taken before anything is read."""
    if engine.dialect.name != "sqlite":
        with engine.begin() as connection:
            yield connection
        return
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        try:
            yield connection
            connection.exec_driver_sql("COMMIT")
        except BaseException:
            _roll_back(connection)
            raise


@contextmanager
def snapshot(engine: Engine) -> Iterator[Connection]:
    """A transaction that only reads, all of it as of one moment."""
    if engine.dialect.name != "sqlite":
        options: dict[str, Any] = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
        with engine.connect().execution_options(**options) as connection:
            yield connection
        return
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("BEGIN")
        try:
            yield connection
        finally:
            _roll_back(connection)


def _roll_back(connection: Connection) -> None:
    # SQLite has already done it after some errors (a full disk), and would complain.
    driver = connection.connection.dbapi_connection
    if driver is not None and driver.in_transaction:
        connection.exec_driver_sql("ROLLBACK")


def _sqlite(target: str, busy_timeout: float) -> Engine:
    path = Path(target)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LedgerError(f"cannot create {path.parent} for the ledger: {error.strerror}") from None
    with suppress(OSError):  # it is there already, or SQLite will say why it cannot be
        path.touch(mode=0o600, exist_ok=False)  # its WAL gets the same
    engine = create_engine(
        f"sqlite+pysqlite:///{path}", connect_args={"timeout": busy_timeout}, hide_parameters=True
    )
    event.listen(engine, "connect", _configure)
    return engine


def _configure(connection: DBAPIConnection, _entry: ConnectionPoolEntry) -> None:
    assert isinstance(connection, sqlite3.Connection)
    # A crash of the machine may lose the last transactions under NORMAL, never corrupt the file.
    connection.execute("PRAGMA synchronous=NORMAL")
    # Request ids are random, so each row dirties another page of their index: copying those into the file less
    # often (every 32 MB of WAL) and keeping 4 MB of them took inserts at 500,000 rows from 33 to 24 µs of CPU.
    connection.execute("PRAGMA wal_autocheckpoint=8000")
    connection.execute("PRAGMA cache_size=-4000")


def _postgres(target: str) -> Engine:
    import psycopg
    from psycopg.conninfo import conninfo_to_dict

    wanted = {
        "connect_timeout": _CONNECT_SECONDS,
        "tcp_user_timeout": _SILENT_SECONDS * 1000,
        "keepalives_idle": _SILENT_SECONDS // 2,
        "keepalives_interval": 1,
        "keepalives_count": _SILENT_SECONDS // 2,
        "application_name": "aion",
    }
    given = conninfo_to_dict(target)
    options: dict[str, Any] = {key: value for key, value in wanted.items() if key not in given}
    opened: Callable[[], Any] = lambda: psycopg.connect(target, **options)  # noqa: E731
    return create_engine(
        "postgresql+psycopg://", creator=opened, pool_pre_ping=True, pool_size=2, max_overflow=8, hide_parameters=True
    )


def _open(engine: Engine, name: str, patience: float) -> None:
    """Several processes do this at the same moment on a new database."""
    deadline = time.monotonic() + 2 * patience
    while True:
        try:
            if _ready(engine, name) or _upgrade(engine, name):
                return
        except DatabaseError as error:
            # Changing SQLite's journal mode answers "locked" at once instead of waiting for the busy timeout.
            if "locked" not in str(error.orig) or time.monotonic() > deadline:
                raise _opening_error(error, name) from None
        else:
            if time.monotonic() > deadline:
                raise LedgerAway(f"the ledger {name} is being brought up to date by another process")
        time.sleep(random.uniform(0.01, 0.05))


def _opening_error(error: DBAPIError, name: str) -> LedgerError:
    """The same error in our words. What cannot be opened at all will not mend itself on SQLite; on PostgreSQL a server
    that starts, fails over or reloads its passwords refuses for a while with the same errors as one that never will."""
    text = " ".join(str(error.orig).split())
    if isinstance(error, OperationalError | InternalError):
        passing = ("locked", "busy", "full", "I/O")
        if not isinstance(error.orig, sqlite3.Error) or any(word in text for word in passing):
            return LedgerAway(f"cannot open the ledger {name}: {text}")
    return LedgerError(f"cannot open the ledger {name}: {text}")


def _ready(engine: Engine, name: str) -> bool:
    """Whether the schema is the newest. Raises LedgerError when it is newer than that."""
    with engine.connect() as connection:
        if engine.dialect.name == "sqlite":
            if connection.exec_driver_sql("PRAGMA journal_mode").scalar() != "wal":
                connection.exec_driver_sql("PRAGMA journal_mode=WAL")
            version = connection.exec_driver_sql("PRAGMA user_version").scalar() or 0
            if version > _FILE_VERSION:
                raise _too_new(name, version)
        elif (encoding := connection.exec_driver_sql("SHOW server_encoding").scalar()) != "UTF8":
            raise LedgerError(f"the ledger {name} has the encoding {encoding}, and must have UTF8")
        revision = _revision(connection)
    if revision is not None and revision not in REVISIONS:
        raise _too_new(name, revision)
    return revision == HEAD


def _too_new(name: str, version: object) -> LedgerError:
    return LedgerError(
        f"the ledger {name} has schema version {version}, this aion knows {HEAD}: "
        "use the aion that wrote it, or another database"
    )


def _revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    found: str | None = connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar()
    return found


def _upgrade(engine: Engine, name: str) -> bool:
    """Bring the schema up to date, unless another process does: then False, at once or after SQLite's busy timeout."""
    with _migrating, exclusive(engine) as connection:
        sqlite = engine.dialect.name == "sqlite"
        if not sqlite and not connection.exec_driver_sql(f"SELECT pg_try_advisory_xact_lock({_LOCK_KEY})").scalar():
            return False
        if _revision(connection) == HEAD:
            return True
        from alembic import command
        from alembic.config import Config

        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
        if sqlite:
            connection.exec_driver_sql(f"PRAGMA user_version={_FILE_VERSION}")
    return True
