"""The admin API as a real process: on PostgreSQL, and telling the workers."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from aion_extproc.extproc.bus import Bus
from aion_extproc.stores.database import connect
from aion_extproc.stores.keys_changes import NEWS, changes
from aion_extproc.stores.keys_tables import now_ms
from tests.support.gateway import wait_for
from tests.support.postgres import PASSWORD, Postgres, postgres
from tests.unit.test_admin import ADMIN, digest
from tests.unit.test_api import MODELS, Api, api

AUTH = {"enabled": True, "admin_digest": digest(ADMIN)}
STATE: dict[str, Any] = {"models": MODELS, "providers": ["openai"], "auth": AUTH}


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    with postgres() as running:
        yield running


def ask(running: Api, method: str, path: str, body: Any = None) -> Any:
    answer = running.http.request(method, f"/admin{path}", json=body, headers={"X-Admin-Secret": ADMIN})
    assert answer.status_code < 300, answer.text
    return answer.json() if answer.content else None


def models(running: Api, key: str) -> int:
    return running.http.get("/v1/models", headers={"x-api-key": key}).status_code


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_workers_are_told_of_a_change_when_it_is_there_to_be_read(tmp_path: Path, anyio_backend: str) -> None:
    told: asyncio.Queue[int] = asyncio.Queue()
    with api(tmp_path, **STATE) as running:
        engine = connect(str(tmp_path / "aion.db"))
        bus = Bus(tmp_path / "worker-0.bus")
        bus.subscribe(NEWS, lambda _: told.put_nowait(changes(engine, None, 0).version))
        bus.open()
        for method, path, body in (
            ("POST", "/keys", {"name": "ci"}),
            ("POST", "/keys/ci/rotate", None),
            ("DELETE", "/keys/ci", None),
            ("PUT", "/tenants/acme", {}),
        ):
            before = changes(engine, None, 0).version
            await asyncio.to_thread(ask, running, method, path, body)
            async with asyncio.timeout(1):
                assert await told.get() == before + 1
        await asyncio.to_thread(ask, running, "GET", "/keys")
        assert running.http.post("/admin/keys", json={}, headers={"X-Admin-Secret": ADMIN}).status_code == 422
        bus.close()
        assert told.empty()
        engine.dispose()


def test_a_database_with_a_password(tmp_path: Path, server: Postgres) -> None:
    with server.database() as url, api(tmp_path, url, **STATE) as running:
        key = ask(running, "POST", "/keys", {"name": "ci"})["key"]
        assert models(running, key) == 200
        for file in ("cmdline", "environ"):
            assert PASSWORD not in Path(f"/proc/{running.process.pid}/{file}").read_text()
        assert PASSWORD not in (tmp_path / "state.json").read_text()


def test_an_outage_takes_nobodys_key_away(tmp_path: Path, server: Postgres) -> None:
    with server.database() as url, api(tmp_path, url, **STATE) as running:
        key = ask(running, "POST", "/keys", {"name": "ci"})["key"]
        server.kill()
        try:
            answer = running.http.post("/admin/keys", json={"name": "other"}, headers={"X-Admin-Secret": ADMIN})
            assert (answer.status_code, answer.json()["error"]["code"]) == (503, "database_unavailable")
            assert models(running, key) == 200
            assert running.http.get("/health").status_code == 200
        finally:
            server.start()
        engine = connect(url)
        with engine.begin() as connection:  # another machine's gateway revokes it
            connection.exec_driver_sql("UPDATE access_version SET version = version + 1")
            connection.exec_driver_sql(
                "UPDATE keys SET version = (SELECT version FROM access_version), revoked_at_ms = %s", (now_ms(),)
            )
        engine.dispose()
        wait_for(lambda: models(running, key) == 401, 5)
