"""A new database for a test: SQLite's file, or one of a PostgreSQL that all tests of a module share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Engine

from aion_extproc.stores.database import connect
from tests.support.postgres import Postgres

BOTH = ("sqlite", "postgresql")


@contextmanager
def new_database(kind: str, directory: Path, server: Postgres) -> Iterator[Engine]:
    """With the newest schema."""
    if kind == "sqlite":
        engine = connect(str(directory / "aion.db"))
        yield engine
        engine.dispose()
        return
    with server.database() as url:
        engine = connect(url)
        yield engine
        engine.dispose()


def everything_in(engine: Engine) -> str:
    """All values of all tables, as text."""
    from sqlalchemy import inspect

    texts: list[Any] = []
    with engine.connect() as connection:
        for table in inspect(connection).get_table_names():
            texts += connection.exec_driver_sql(f'SELECT * FROM "{table}"').all()
    return repr(texts)
