"""`aion keys` and `aion tenants` on a database."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from typer.testing import CliRunner, Result

from aion_extproc.cli import app
from aion_extproc.stores.database import connect
from aion_extproc.stores.keys_changes import changes
from aion_extproc.stores.secrets import Vault, digest
from tests.support.databases import everything_in

PROVIDER_KEY = "sk-proj-a-key-of-acme-0123456789"
CONFIG = """
providers:
  openai: {tenant_keys_only: true, models: [{id: gpt-5.4-mini, tier: 1}]}
auth:
  keys: [{key: sk-configured, name: from-file, tenant: filed}]
tenants:
  filed: {budget: {daily_limit_usd: 1}}
"""


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """With a configuration, which is found there; the database is ./data/aion.db."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AION_MASTER_KEY", base64.b64encode(os.urandom(32)).decode())
    monkeypatch.delenv("AION_MASTER_KEY_OLD", raising=False)
    (tmp_path / "aion.yaml").write_text(CONFIG)
    yield tmp_path
    structlog.reset_defaults()  # the command logs to the standard error of its run, which is closed by now


def run(*arguments: str, stdin: str | None = None, code: int = 0) -> Result:
    done = CliRunner().invoke(app, arguments, input=stdin)
    assert done.exit_code == code, done.stderr
    assert "Traceback" not in done.stderr
    return done


def create(*arguments: str) -> str:
    done = run("keys", "create", *arguments)
    assert done.stdout.count("\n") == 1
    return done.stdout.strip()


def known(directory: Path, vault: Vault | None = None) -> Any:
    engine = connect(str(directory / "data" / "aion.db"))
    found = changes(engine, vault, 0)
    engine.dispose()
    return found


def test_a_key_has_the_rules_that_its_options_say(directory: Path) -> None:
    options = "--name ci --tenant acme --service search --tiers 1,2 --expires 2100-01-01 --daily-usd 5"
    options += " --monthly-usd 50.5 --on-limit downgrade --rpm 6 --tpm 7 --concurrent 8 --tag a --tag b --trusted"
    secret = create(*options.split(), "--models", "gpt*, anthropic/*")
    (key,) = known(directory).keys
    assert key.digest == digest(secret)
    assert key.rules.model_dump(mode="json") == {
        "name": "ci",
        "tenant": "acme",
        "service": "search",
        "trusted": True,
        "models": ["gpt*", "anthropic/*"],
        "tiers": [1, 2],
        "expires_at": "2100-01-01T00:00:00Z",
        "tags": ["a", "b"],
        "budget": {
            "daily_limit_usd": "5",
            "monthly_limit_usd": "50.5",
            "on_limit": "downgrade",
            "warn_at": [80, 100],
        },
        "limits": {"requests_per_minute": 6, "tokens_per_minute": 7, "concurrent_requests": 8},
    }
    assert create("--name", "plain") not in run("keys", "list").stdout
    listed = json.loads(run("keys", "list", "--json").stdout)
    assert [(one["name"], one["source"], one["state"]) for one in listed] == [
        ("from-file", "config", "active"),
        ("ci", "store", "active"),
        ("plain", "store", "active"),
    ]
    assert {"name": "ci", "hint": secret[-4:]}.items() <= listed[1].items()


def test_from_rotation_to_revocation(directory: Path) -> None:
    first = create("--name", "ci")
    second = run("keys", "rotate", "ci", "--overlap", "1h").stdout.strip()
    assert {key.digest for key in known(directory).keys} == {digest(first), digest(second)}
    third = run("keys", "rotate", "ci").stdout.strip()
    assert {key.digest for key in known(directory).keys} == {digest(third)}
    assert run("keys", "revoke", "ci").stdout == ""
    assert known(directory).keys == ()
    assert run("keys", "list").stdout.count("revoked") == 3


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        ("create --name a/b", 2, "--name: must be a name"),
        ("create --name a --tiers 1,4", 2, "--tiers: input should be less than or equal to 3"),
        ("create --name a --models ,", 2, "--models: "),
        ("create --name a --expires soon", 2, "--expires: must be a date or a time, such as 2027-01-31"),
        ("create --name a --expires 2020-01-01", 1, "over already"),
        ("create --name a --daily-usd -1", 2, "--daily-usd: must be more than zero"),
        ("create --name a --on-limit reject", 2, "--on-limit: needs daily_limit_usd"),
        ("create --name a --daily-usd 1 --on-limit never", 2, "--on-limit: "),
        ("create --name a --rpm 0", 2, "--rpm: "),
        ("create --name a --tag b/c", 2, "--tag: "),
        ("create --name from-file", 1, "from-file is in the configuration; change it there"),
        ("revoke from-file", 1, "from-file is in the configuration"),
        ("rotate from-file", 1, "from-file is in the configuration"),
        ("revoke nobody", 1, "there is no key nobody"),
        ("rotate nobody --overlap 31d", 1, "30 days"),
        ("rotate nobody --overlap long", 2, "--overlap: must be a duration"),
        ("list -c nowhere.yaml", 2, "nowhere.yaml: cannot be read"),
    ],
)
def test_what_is_wrong_is_told_by_its_option(arguments: str, code: int, says: str) -> None:
    done = run("keys", *arguments.split(), code=code)
    assert says in done.stderr
    assert done.stdout == ""


def test_whoever_makes_a_key_that_nobody_needs_is_told(directory: Path) -> None:
    assert "auth.enabled" not in run("keys", "create", "--name", "needed").stderr
    (directory / "aion.yaml").write_text("auth: {enabled: false}")
    assert "auth.enabled" in run("keys", "create", "--name", "idle").stderr
    (directory / "aion.yaml").unlink()
    assert "auth.enabled" in run("keys", "create", "--name", "without-a-file").stderr


def test_a_database_that_is_not_there_is_told_without_its_password(directory: Path) -> None:
    (directory / "aion.yaml").write_text("telemetry: {db_url: 'postgresql://me:secret-word@127.0.0.1:1/aion'}")
    done = run("keys", "list", code=1)
    assert "127.0.0.1:1/aion" in done.stderr
    assert "secret-word" not in done.stderr


def test_a_tenants_own_key_comes_from_standard_input(directory: Path) -> None:
    done = run("tenants", "set-key", "acme", "openai", stdin=f"{PROVIDER_KEY}\n")
    (entry,) = known(directory, Vault.from_env()).tenants.values()
    assert entry.settings.provider_keys["openai"].get_secret_value() == PROVIDER_KEY
    listed = run("tenants", "list", "--json")
    assert json.loads(listed.stdout) == [
        {"id": "acme", "budget": None, "limits": None, "provider_keys": [{"provider": "openai", "hint": "6789"}]}
    ]
    engine = connect(str(directory / "data" / "aion.db"))
    assert PROVIDER_KEY not in done.output + listed.output + run("tenants", "list").output + everything_in(engine)
    engine.dispose()
    run("tenants", "remove-key", "acme", "openai")
    assert not known(directory, Vault.from_env()).tenants["acme"].settings.provider_keys


@pytest.mark.parametrize(
    ("arguments", "stdin", "code", "says"),
    [
        ("set-key acme nobody", PROVIDER_KEY, 1, "known are: openai"),
        ("set-key a/b openai", PROVIDER_KEY, 2, "must be a name"),
        ("set-key acme openai", "", 2, "standard input is empty"),
        ("set-key acme openai", f"{PROVIDER_KEY} {PROVIDER_KEY}", 2, "has a space"),
        ("remove-key acme openai", None, 1, "there is no tenant acme"),
        ("delete acme", None, 1, "there is no tenant acme"),
        ("delete filed", None, 1, "filed is in the configuration; remove it there"),
    ],
)
def test_what_cannot_be_done_with_a_tenant(arguments: str, stdin: str | None, code: int, says: str) -> None:
    done = run("tenants", *arguments.split(), stdin=stdin, code=code)
    assert says in done.stderr
    assert PROVIDER_KEY not in done.output


def test_a_deleted_tenant_has_no_keys(directory: Path) -> None:
    create("--name", "ci", "--tenant", "acme")
    run("tenants", "set-key", "acme", "openai", stdin=PROVIDER_KEY)
    run("tenants", "delete", "acme")
    left = known(directory, Vault.from_env())
    assert (left.keys, dict(left.tenants)) == ((), {})


def test_the_master_key_is_changed(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run("tenants", "set-key", "acme", "openai", stdin=PROVIDER_KEY)
    old, new = os.environ["AION_MASTER_KEY"], os.urandom(32).hex()
    monkeypatch.setenv("AION_MASTER_KEY", new)
    assert "acme/openai: it was sealed with the master key" in run("tenants", "reencrypt", code=1).stderr
    monkeypatch.setenv("AION_MASTER_KEY_OLD", old)
    assert "encrypted 1 key anew" in run("tenants", "reencrypt").stderr
    monkeypatch.delenv("AION_MASTER_KEY_OLD")
    (entry,) = known(directory, Vault.from_env()).tenants.values()
    assert entry.settings.provider_keys["openai"].get_secret_value() == PROVIDER_KEY
    monkeypatch.setenv("AION_MASTER_KEY", "weak")
    for arguments in (("reencrypt",), ("set-key", "acme", "openai")):
        assert "openssl rand -base64 32" in run("tenants", *arguments, stdin=PROVIDER_KEY, code=1).stderr
