"""Tenants in the database, on SQLite and on PostgreSQL."""

from __future__ import annotations

import base64
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine

from aion_extproc.config.access import BudgetSettings, KeyRules, LimitSettings
from aion_extproc.stores.keys import KeyStore
from aion_extproc.stores.keys_changes import TenantEntry, changes
from aion_extproc.stores.keys_tables import Missing, provider_keys
from aion_extproc.stores.secrets import Vault, VaultError, digest
from aion_extproc.stores.tenants import TenantRules, TenantStore
from tests.support.databases import BOTH, everything_in, new_database
from tests.support.postgres import Postgres, postgres

SECRET, OTHER = "sk-proj-a-key-of-acme-0123456789", "sk-ant-another-key-of-acme-987654"
RULES = TenantRules(
    budget=BudgetSettings.model_validate({"monthly_limit_usd": "50.10", "warn_at": [50]}),
    limits=LimitSettings(tokens_per_minute=1000),
)
MASTER = base64.b64encode(os.urandom(32)).decode()
VAULT = Vault.from_env({"AION_MASTER_KEY": MASTER})


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    with postgres() as running:
        yield running


@pytest.fixture(params=BOTH)
def engine(request: pytest.FixtureRequest, tmp_path: Path, server: Postgres) -> Iterator[Engine]:
    with new_database(request.param, tmp_path, server) as engine:
        yield engine


@pytest.fixture
def store(engine: Engine) -> TenantStore:
    return TenantStore(engine, VAULT)


def entry(engine: Engine, tenant: str, vault: Vault = VAULT) -> TenantEntry:
    found = changes(engine, vault, 0).tenants[tenant]
    assert found is not None
    return found


def opened(engine: Engine, tenant: str) -> dict[str, str]:
    keys = entry(engine, tenant).settings.provider_keys
    return {provider: key.get_secret_value() for provider, key in keys.items()}


def test_limits_are_kept_and_replaced(engine: Engine, store: TenantStore) -> None:
    assert store.put("acme", RULES)
    assert store.find("acme").rules == RULES
    told = entry(engine, "acme").settings
    assert (told.budget, told.limits) == (RULES.budget, RULES.limits)
    assert not store.put("acme", TenantRules())
    assert store.find("acme").rules == TenantRules()


def test_provider_keys_are_kept_encrypted(engine: Engine, store: TenantStore) -> None:
    assert store.put_provider_key("acme", "openai", SECRET)
    assert store.put_provider_key("acme", "anthropic", OTHER)
    assert opened(engine, "acme") == {"openai": SECRET, "anthropic": OTHER}
    assert not store.put_provider_key("acme", "openai", OTHER)
    assert opened(engine, "acme") == {"openai": OTHER, "anthropic": OTHER}
    assert [(key.provider, key.hint) for key in store.find("acme").provider_keys] == [
        ("anthropic", "7654"),
        ("openai", "7654"),
    ]
    shown = everything_in(engine) + repr(changes(engine, VAULT, 0)) + repr(store.list())
    assert SECRET not in shown
    assert OTHER not in shown
    store.delete_provider_key("acme", "openai")
    assert opened(engine, "acme") == {"anthropic": OTHER}


def test_every_change_of_a_tenant_is_told_whole(engine: Engine, store: TenantStore) -> None:
    version = changes(engine, VAULT, 0).version
    store.put_provider_key("other", "openai", OTHER)
    for change in (
        lambda: store.put("acme", RULES),
        lambda: store.put_provider_key("acme", "openai", SECRET),
        lambda: store.put_provider_key("acme", "anthropic", SECRET),
        lambda: store.delete_provider_key("acme", "anthropic"),
    ):
        version = changes(engine, VAULT, version).version
        change()
        told = changes(engine, VAULT, version)
        assert (dict(told.tenants), told.complete) == ({"acme": entry(engine, "acme")}, False)
    assert opened(engine, "acme") == {"openai": SECRET}
    assert entry(engine, "acme").settings.budget == RULES.budget


def test_a_tenant_is_there_with_its_first_key(engine: Engine, store: TenantStore) -> None:
    KeyStore(engine).create(KeyRules(name="ci", tenant="acme"))
    assert [one.id for one in store.list()] == ["acme"]


def test_with_a_tenant_go_its_keys_and_only_its(engine: Engine, store: TenantStore) -> None:
    keys = KeyStore(engine)
    theirs = [keys.create(KeyRules(name="ci", tenant="acme"))]
    theirs.append(keys.rotate("ci", 3600))
    others = [keys.create(KeyRules(name="free")), keys.create(KeyRules(name="else", tenant="acme2"))]
    for tenant in ("acme", "acme2"):
        store.put(tenant, RULES)
        store.put_provider_key(tenant, "openai", SECRET)
    version = changes(engine, VAULT, 0).version
    store.delete("acme")
    told = changes(engine, VAULT, version)
    assert (told.keys, set(told.gone), dict(told.tenants)) == ((), set(map(digest, theirs)), {"acme": None})
    after = changes(engine, VAULT, 0)
    assert {key.digest for key in after.keys} == set(map(digest, others))
    assert (list(after.tenants), opened(engine, "acme2")) == (["acme2"], {"openai": SECRET})
    for again in (store.delete, store.find):
        with pytest.raises(Missing, match="acme"):
            again("acme")
    assert store.put("acme", TenantRules())  # the same name again has nothing of what was
    assert (opened(engine, "acme"), store.find("acme").rules) == ({}, TenantRules())


def test_what_is_not_there_cannot_be_deleted(store: TenantStore) -> None:
    with pytest.raises(Missing, match="no tenant acme"):
        store.delete("acme")
    with pytest.raises(Missing, match="no tenant acme"):
        store.delete_provider_key("acme", "openai")
    store.put("acme", RULES)
    with pytest.raises(Missing, match="no key at openai"):
        store.delete_provider_key("acme", "openai")


def test_a_ciphertext_that_was_moved_to_another_tenant_does_not_open(engine: Engine, store: TenantStore) -> None:
    store.put_provider_key("acme", "openai", SECRET)
    store.put("mallory", RULES)
    with engine.begin() as connection:
        connection.execute(provider_keys.update().values(tenant="mallory"))
    found = entry(engine, "mallory")
    assert not found.settings.provider_keys
    assert found.unreadable == {"openai"}


def test_with_another_master_key_a_provider_is_out_of_reach_and_not_free(
    engine: Engine, store: TenantStore
) -> None:
    store.put("acme", RULES)
    store.put_provider_key("acme", "openai", SECRET)
    for env in ({}, {"AION_MASTER_KEY": base64.b64encode(os.urandom(32)).decode()}):
        found = entry(engine, "acme", Vault.from_env(env))
        assert (found.settings.budget, found.settings.provider_keys) == (RULES.budget, {})
        assert found.unreadable == {"openai"}


def test_without_a_master_key_nothing_is_stored(engine: Engine) -> None:
    store = TenantStore(engine, Vault.from_env({}))
    with pytest.raises(VaultError, match="AION_MASTER_KEY"):
        store.put_provider_key("acme", "openai", SECRET)
    assert store.list() == ()
    assert store.put("acme", RULES)  # all else works


def test_keys_are_sealed_anew_with_the_next_master_key(engine: Engine, store: TenantStore) -> None:
    store.put_provider_key("acme", "openai", SECRET)
    store.put_provider_key("acme", "anthropic", OTHER)
    both = Vault.from_env(
        {"AION_MASTER_KEY": base64.b64encode(os.urandom(32)).decode(), "AION_MASTER_KEY_OLD": MASTER}
    )
    alone = Vault(both.masters[:1], "")
    TenantStore(engine, both).put_provider_key("other", "openai", OTHER)
    done, failed = TenantStore(engine, alone).reseal()
    assert (done, len(failed)) == (0, 2)
    assert all(line.startswith("acme/") and "AION_MASTER_KEY_OLD" in line for line in failed)
    version = changes(engine, both, 0).version
    assert TenantStore(engine, both).reseal() == (2, [])
    assert TenantStore(engine, both).reseal() == (0, [])
    assert set(changes(engine, alone, version).tenants) == {"acme"}
    found = entry(engine, "acme", alone)
    assert {key.get_secret_value() for key in found.settings.provider_keys.values()} == {SECRET, OTHER}
