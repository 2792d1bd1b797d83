"""Keeping up with the database of the keys."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest

from aion_extproc.config.access import KeyRules
from aion_extproc.extproc.callers import Keyring
from aion_extproc.stores.database import connect
from aion_extproc.stores.keys import KeyStore
from aion_extproc.stores.keys_changes import Changes
from aion_extproc.stores.keys_follow import KeyDatabase
from aion_extproc.stores.secrets import digest

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class HeldUp(KeyDatabase):
    """Its first answer comes late."""

    def __init__(self, target: str, known: Keyring) -> None:
        super().__init__(target, known, None)
        self.has_read, self.may_go_on = threading.Event(), threading.Event()

    def _news(self) -> Changes:
        news = super()._news()
        if not self.has_read.is_set():
            self.has_read.set()
            assert self.may_go_on.wait(10)
        return news


async def test_an_older_answer_does_not_come_after_a_newer_one(tmp_path: Path) -> None:
    engine, known = connect(str(tmp_path / "aion.db")), Keyring()
    database = HeldUp(str(tmp_path / "aion.db"), known)
    store = KeyStore(engine)
    store.create(KeyRules(name="ci"))
    first = asyncio.create_task(database.refresh())
    await asyncio.to_thread(database.has_read.wait, 10)
    store.revoke("ci")
    second = asyncio.create_task(database.refresh())
    await asyncio.wait({second}, timeout=0.3)  # it may not overtake, however long that takes
    database.may_go_on.set()
    await asyncio.gather(first, second)
    assert known.keys == {}
    database.close()
    engine.dispose()


async def test_what_is_known_stays_while_the_database_cannot_be_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "aion.db"
    engine, known = connect(str(path)), Keyring()
    database = KeyDatabase(str(path), known, None)
    key = KeyStore(engine).create(KeyRules(name="ci"))
    await database.refresh()
    with engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE keys RENAME TO elsewhere")
        connection.exec_driver_sql("UPDATE access_version SET version = version + 1")
    for _ in range(3):
        await database.refresh()
    assert list(known.keys) == [digest(key)]
    assert capsys.readouterr().out.count("keys_not_read") == 1
    with engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE elsewhere RENAME TO keys")
    KeyStore(engine).revoke("ci")
    await database.refresh()
    assert known.keys == {}
    database.close()
    engine.dispose()
