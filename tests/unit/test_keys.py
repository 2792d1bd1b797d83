"""Keys in the database, on SQLite and on PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Engine

from aion_extproc.config.access import BudgetSettings, KeyRules, LimitSettings
from aion_extproc.stores.keys import LONGEST_OVERLAP_SECONDS, KeyStore
from aion_extproc.stores.keys_changes import Changes, changes
from aion_extproc.stores.keys_tables import Conflict, Invalid, Missing, keys, metadata
from aion_extproc.stores.secrets import KEY_PREFIX, digest
from tests.support.databases import BOTH, everything_in, new_database
from tests.support.postgres import Postgres, postgres

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
HOUR_MS = 3_600_000


class Clock:
    def __init__(self) -> None:
        self.ms = int(NOW.timestamp() * 1000)

    def __call__(self) -> int:
        return self.ms


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    with postgres() as running:
        yield running


@pytest.fixture(params=BOTH)
def engine(request: pytest.FixtureRequest, tmp_path: Path, server: Postgres) -> Iterator[Engine]:
    with new_database(request.param, tmp_path, server) as engine:
        yield engine


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(engine: Engine, clock: Clock) -> KeyStore:
    return KeyStore(engine, clock)


RULES = KeyRules(
    name="ci",
    tenant="acme",
    service="search",
    trusted=True,
    models=("gpt-5*", "anthropic/claude-haiku-5-5"),
    tiers=(1, 2),
    expires_at=NOW + timedelta(days=1),
    tags=("team-a", "nightly"),
    budget=BudgetSettings.model_validate({"daily_limit_usd": "0.000000001", "on_limit": "downgrade"}),
    limits=LimitSettings(requests_per_minute=5),
)


def test_what_is_created_is_found_again_and_its_secret_nowhere(engine: Engine, store: KeyStore, clock: Clock) -> None:
    secret = store.create(RULES)
    assert secret.startswith(KEY_PREFIX)
    assert len(secret) >= len(KEY_PREFIX) + 43  # 256 bits
    (found,) = store.list()
    assert (found.digest, found.rules, found.hint) == (digest(secret), RULES, secret[-4:])
    assert (found.created_at_ms, found.status(clock.ms)) == (clock.ms, "active")
    assert found == store.find("ci")
    assert secret.removeprefix(KEY_PREFIX) not in everything_in(engine)
    assert store.create(KeyRules(name="other")) != secret


def test_a_name_belongs_to_one_living_key(store: KeyStore, clock: Clock) -> None:
    store.create(RULES)
    with pytest.raises(Conflict, match="ci"):
        store.create(KeyRules(name="ci"))
    store.revoke("ci")
    store.create(RULES)
    clock.ms += 25 * HOUR_MS
    store.create(KeyRules(name="ci"))  # the one before has expired
    assert [key.status(clock.ms) for key in store.list()] == ["revoked", "revoked", "active"]


def test_what_makes_no_sense_is_refused(store: KeyStore, clock: Clock) -> None:
    with pytest.raises(Invalid, match="over already"):
        store.create(KeyRules(name="late", expires_at=NOW))
    for nobody in (store.revoke, store.rotate, store.find):
        with pytest.raises(Missing, match="nobody"):
            nobody("nobody")
    store.create(RULES)
    for overlap in (-1, LONGEST_OVERLAP_SECONDS + 1):
        with pytest.raises(Invalid, match="30 days"):
            store.rotate("ci", overlap)
    clock.ms += 25 * HOUR_MS
    with pytest.raises(Conflict, match="expired"):
        store.rotate("ci")
    store.revoke("ci")
    with pytest.raises(Missing):
        store.revoke("ci")


def test_a_rotated_key_is_accepted_until_the_overlap_is_over(engine: Engine, store: KeyStore, clock: Clock) -> None:
    first = store.create(RULES)
    before = changes(engine, None, 0, clock)
    second = store.rotate("ci", 3600)
    told = changes(engine, None, before.version, clock)
    assert {key.digest: key.valid_until_ms for key in told.keys} == {
        digest(first): clock.ms + HOUR_MS,
        digest(second): clock.ms + 24 * HOUR_MS,  # its rules' own end
    }
    assert all(key.rules == RULES for key in told.keys)
    clock.ms += HOUR_MS
    (left,) = changes(engine, None, 0, clock).keys
    assert left.digest == digest(second)


def test_rotating_at_once_and_revoking_end_the_predecessors_too(
    engine: Engine, store: KeyStore, clock: Clock
) -> None:
    first = store.create(KeyRules(name="ci"))
    second = store.rotate("ci", 3600)
    version = changes(engine, None, 0, clock).version
    third = store.rotate("ci")
    told = changes(engine, None, version, clock)
    assert ([key.digest for key in told.keys], set(told.gone)) == ([digest(third)], {digest(first), digest(second)})
    store.revoke("ci")
    told = changes(engine, None, told.version, clock)
    assert (told.keys, told.gone, told.complete) == ((), (digest(third),), False)
    assert changes(engine, None, told.version, clock) == Changes(told.version, complete=False)


def test_all_is_told_to_who_comes_from_another_database(engine: Engine, store: KeyStore, clock: Clock) -> None:
    store.create(KeyRules(name="gone"))
    store.revoke("gone")
    kept = store.create(KeyRules(name="kept"))
    for since in (0, 10**9):
        told = changes(engine, None, since, clock)
        assert (told.complete, [key.digest for key in told.keys], told.gone) == (True, [digest(kept)], ())


def test_a_key_whose_rules_cannot_be_read_is_refused(engine: Engine, store: KeyStore, clock: Clock) -> None:
    bad, good = store.create(KeyRules(name="bad")), store.create(KeyRules(name="good"))
    with engine.begin() as connection:
        connection.execute(keys.update().where(keys.c.name == "bad").values(rules='{"name":"bad","unheard":"of"}'))
    told = changes(engine, None, 0, clock)
    assert ([key.digest for key in told.keys], told.gone) == ([digest(good)], (digest(bad),))


def test_of_many_at_once_one_gets_the_name_and_nobody_misses_a_change(
    engine: Engine, store: KeyStore, clock: Clock
) -> None:
    def create(number: int) -> str | None:
        try:
            return store.create(KeyRules(name=f"name-{number % 5}"))
        except Conflict:
            return None

    seen: set[bytes] = set()
    with ThreadPoolExecutor(8) as pool:
        made = [pool.submit(create, number) for number in range(40)]
        version = 1
        while not all(one.done() for one in made):  # a reader in between: what commits later has a later version
            told = changes(engine, None, version, clock)
            seen |= {key.digest for key in told.keys}
            version = told.version
    seen |= {key.digest for key in changes(engine, None, version, clock).keys}
    secrets = [secret for one in made if (secret := one.result()) is not None]
    assert len(secrets) == 5
    assert seen == {digest(secret) for secret in secrets} == {key.digest for key in store.list()}


def test_the_migrations_make_the_tables_that_the_stores_speak_of(engine: Engine) -> None:
    ours = set(metadata.tables)
    with engine.connect() as connection:
        context = MigrationContext.configure(
            connection,
            opts={
                "compare_type": True,
                "include_name": lambda name, kind, parents: kind != "table" or name in ours,
            },
        )
        assert compare_metadata(context, metadata) == []
