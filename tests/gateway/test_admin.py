"""The admin API through a whole gateway: keys that come and go, and secrets that are nowhere."""

from __future__ import annotations

import base64
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.answers import as_asked
from tests.support.configs import OPENAI_KEY, two_providers
from tests.support.gateway import Gateway, clean_env, running, wait_for
from tests.support.upstream import Upstream

ADMIN = "the-admin-secret-of-the-gateway"
CONFIGURED = "sk-a-key-of-the-configuration"
TENANTS_KEY = "sk-proj-a-tenants-own-key-0123456789"
MASTER = base64.b64encode(os.urandom(32)).decode()
SOON = 10  # seconds in which every process knows of a change; a second where nothing else uses the machine
AUTH = {"admin_secret": ADMIN, "keys": [{"key": CONFIGURED, "name": "from-file"}]}


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    with Upstream(as_asked) as upstream:
        yield upstream


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, upstream: Upstream) -> Iterator[Gateway]:
    config = two_providers(upstream, auth=AUTH)
    with running(tmp_path_factory.mktemp("admin"), config, {"AION_MASTER_KEY": MASTER}) as gateway:
        yield gateway


def admin(gateway: Gateway, method: str, path: str, body: Any = None) -> httpx.Response:
    headers = {"X-Admin-Secret": ADMIN}
    return httpx.request(method, f"{gateway.url}/admin{path}", json=body, headers=headers, timeout=30)


def create(gateway: Gateway, name: str, **rules: Any) -> str:
    answer = admin(gateway, "POST", "/keys", {"name": name, **rules})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["key"])


def models(gateway: Gateway, key: str) -> int:
    return httpx.get(f"{gateway.url}/v1/models", headers={"authorization": f"Bearer {key}"}, timeout=30).status_code


def chat(gateway: Gateway, key: str, model: str = "gpt-small") -> int:
    body = {"model": model, "messages": [{"role": "user", "content": "hello"}]}
    return gateway.post("/v1/chat/completions", body, authorization=f"Bearer {key}").status_code


def aion_keys(gateway: Gateway, *arguments: str) -> str:
    command = [sys.executable, "-m", "aion_extproc.cli", "keys", *arguments, "-c", str(gateway.directory / "aion.yaml")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=clean_env(), check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def refused_within(gateway: Gateway, key: str, seconds: float) -> None:
    wait_for(lambda: models(gateway, key) == 401, seconds)


def test_a_key_lives_from_its_creation_to_its_end(gateway: Gateway) -> None:
    assert models(gateway, CONFIGURED) == 200
    key = create(gateway, "ci")
    assert models(gateway, key) == 200  # at once
    wait_for(lambda: chat(gateway, key) == 200, SOON)
    successor = admin(gateway, "POST", "/keys/ci/rotate").json()["key"]
    assert (models(gateway, key), models(gateway, successor)) == (401, 200)
    assert admin(gateway, "DELETE", "/keys/ci").status_code == 204
    refused_within(gateway, successor, SOON)
    wait_for(lambda: chat(gateway, successor) == 401, SOON)
    assert models(gateway, CONFIGURED) == 200


def test_the_command_line_makes_and_revokes_keys_of_a_gateway_that_runs(gateway: Gateway) -> None:
    key = aion_keys(gateway, "create", "--name", "by-hand", "--models", "gpt-small")
    wait_for(lambda: models(gateway, key) == 200, SOON)
    listed = {one["name"]: one for one in admin(gateway, "GET", "/keys").json()["keys"]}
    assert (listed["by-hand"]["models"], listed["by-hand"]["hint"]) == (["gpt-small"], key[-4:])
    aion_keys(gateway, "revoke", "by-hand")
    refused_within(gateway, key, SOON)


def test_a_key_with_an_end_is_refused_from_then_on(gateway: Gateway) -> None:
    end = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 3))
    key = create(gateway, "brief", expires_at=end)
    assert models(gateway, key) == 200
    refused_within(gateway, key, 3 + SOON)
    states = {one["name"]: one["state"] for one in admin(gateway, "GET", "/keys").json()["keys"]}
    assert states["brief"] == "expired"


def test_a_tenant_with_a_key_of_its_own_calls_with_that(gateway: Gateway, upstream: Upstream) -> None:
    def sent(key: str) -> str | None:
        return upstream.last.header("authorization") if chat(gateway, key) == 200 else None

    theirs, others = create(gateway, "theirs", tenant="acme"), create(gateway, "others", tenant="other")
    # Of several workers one may know a key before another does.
    wait_for(lambda: sent(theirs) == sent(others) == f"Bearer {OPENAI_KEY}", SOON)
    body = {"provider": "openai", "api_key": TENANTS_KEY}
    assert admin(gateway, "POST", "/tenants/acme/keys", body).status_code == 201
    wait_for(lambda: sent(theirs) == f"Bearer {TENANTS_KEY}", SOON)
    assert sent(others) == f"Bearer {OPENAI_KEY}"
    assert admin(gateway, "DELETE", "/tenants/acme/keys/openai").status_code == 204
    wait_for(lambda: sent(theirs) == f"Bearer {OPENAI_KEY}", SOON)
    assert admin(gateway, "DELETE", "/tenants/acme").status_code == 204
    wait_for(lambda: chat(gateway, theirs) == 401, SOON)
    stays = "/tenants/acme/stats"  # its rows do
    wait_for(lambda: admin(gateway, "GET", stays).json()["savings"]["total_requests"] >= 3)


def test_the_admin_api_is_no_business_of_callers(gateway: Gateway) -> None:
    for headers in ({}, {"authorization": f"Bearer {CONFIGURED}"}, {"x-api-key": CONFIGURED}):
        answer = httpx.get(f"{gateway.url}/admin/keys", headers=headers, timeout=30)
        assert (answer.status_code, answer.headers["cache-control"]) == (401, "no-store")
    answer = gateway.post("/v1/chat/completions", {"model": "gpt-small", "messages": []}, x_admin_secret=ADMIN)
    assert answer.status_code == 401
    assert not [row for row in gateway.rows() if "admin" in row.path]


@pytest.mark.parametrize("host", ["a@b", "[", ""])
def test_no_host_that_a_client_names_leads_past_the_guards(gateway: Gateway, host: str) -> None:
    for path in ("/admin/keys", "/aion/v1/metrics/costs", "/v1/models"):
        with socket.create_connection(("127.0.0.1", gateway.port), 10) as connection:
            connection.sendall(f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
            assert connection.makefile("rb").readline().split()[1] == b"401"


def test_without_a_secret_there_is_no_admin_api_and_a_reload_may_change_that(
    tmp_path: Path, upstream: Upstream
) -> None:
    path = tmp_path / "aion.yaml"
    with running(tmp_path, two_providers(upstream, auth={"keys": AUTH["keys"]})) as gateway:
        answer = admin(gateway, "GET", "/keys")
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")
        assert admin(gateway, "POST", "/keys", {"name": "ci"}).status_code == 404
        config = json.loads(path.read_text())
        path.write_text(json.dumps(config | {"auth": AUTH}))
        wait_for(lambda: admin(gateway, "GET", "/keys").status_code == 200)
        key = create(gateway, "ci")
        path.write_text(json.dumps(config | {"auth": AUTH | {"admin_secret": "another"}}))
        wait_for(lambda: admin(gateway, "GET", "/keys").status_code == 401)
        assert models(gateway, key) == 200


def test_secrets_are_nowhere(gateway: Gateway) -> None:
    first = create(gateway, "seen", tenant="acme")
    second = admin(gateway, "POST", "/keys/seen/rotate", {"overlap_seconds": 60}).json()["key"]
    stored = admin(gateway, "POST", "/tenants/acme/keys", {"provider": "openai", "api_key": TENANTS_KEY})
    assert stored.status_code == 201
    for bad in ({"name": "x", "expires_at": first}, {"name": "x", "budget": TENANTS_KEY}, {"api_key": TENANTS_KEY}):
        admin(gateway, "POST", "/keys", bad)
        admin(gateway, "POST", "/tenants/acme/keys", bad)
    for key in (first, second):
        wait_for(lambda key=key: models(gateway, key) == chat(gateway, key) == 200, 2)  # type: ignore[misc]
    secrets = [first, second, TENANTS_KEY, ADMIN, CONFIGURED, MASTER]
    shown = {
        "log": gateway.log,
        "metrics": gateway.metrics(),
        "dump": gateway.envoy_admin("config_dump?include_eds"),
        "keys": admin(gateway, "GET", "/keys").text,
        "tenants": admin(gateway, "GET", "/tenants").text,
    }
    files = [path for path in gateway.run_dir.rglob("*") if path.is_file()]
    files += list(gateway.directory.glob("aion.db*"))
    assert len(files) > 5
    private = [*gateway.directory.glob("aion.db*"), *(gateway.run_dir / "state").iterdir()]
    assert {path.name for path in private} == {"aion.db", "aion.db-wal", "aion.db-shm", "data.mdb", "lock.mdb"}
    assert not [path for path in private if path.stat().st_mode & 0o077]
    shown |= {str(path): path.read_bytes().decode("latin-1") for path in files}
    found = [(where, secret) for where, text in shown.items() for secret in secrets if secret in text]
    assert found == []
