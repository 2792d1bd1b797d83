"""The admin API on a real database, in this process."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from aion_extproc.accounting.row import LedgerRow
from aion_extproc.api.app import Deps, create_app
from aion_extproc.api.callers import Callers
from aion_extproc.api.state import ApiState
from aion_extproc.routing.health import Health
from aion_extproc.stores.keys_follow import KeyDatabase
from aion_extproc.stores.ledger import Ledger
from aion_extproc.stores.secrets import Vault
from tests.unit.test_api import MODELS

ADMIN = "the-admin-secret-of-the-tests"
PROVIDER_KEY = "sk-proj-a-key-of-acme-0123456789"
CONFIGURED = {"name": "from-file", "tenant": "filed", "tiers": [1]}
NOW_MS = 1_795_000_000_000
BUDGET = {"daily_limit_usd": "5", "monthly_limit_usd": None, "on_limit": "reject", "warn_at": [80, 100]}


def digest(secret: str) -> str:
    return sha256(secret.encode()).hexdigest()


@dataclass
class Admin:
    app: FastAPI
    client: TestClient
    directory: Path
    deps: Deps
    told: list[int] = field(default_factory=list)  # a version for each time that the workers were told

    def ask(self, method: str, path: str, body: Any = None) -> httpx2.Response:
        named = {"X-Admin-Secret": ADMIN, "content-type": "application/json"}
        content = None if body is None else json.dumps(body)  # ASCII, whatever is in it
        return self.client.request(method, f"/admin{path}", content=content, headers=named)

    def get(self, path: str) -> Any:
        answer = self.ask("GET", path)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def create(self, name: str, **rules: Any) -> str:
        answer = self.ask("POST", "/keys", {"name": name, **rules})
        assert answer.status_code == 201, answer.text
        return str(answer.json()["key"])

    def models(self, key: str) -> int:
        """The status of a list of models with this key."""
        return self.client.get("/v1/models", headers={"authorization": f"Bearer {key}"}).status_code


@contextmanager
def admin_api(directory: Path, env: dict[str, str] | None = None, admin_digest: str | None = None) -> Iterator[Admin]:
    state = ApiState.model_validate(
        {
            "db_path": directory / "aion.db",
            "models": MODELS,
            "providers": ["openai", "local", "openrouter", "vllm"],
            "auth": {
                "enabled": True,
                "keys": [{"digest": digest("sk-configured"), "rules": CONFIGURED}],
                "admin_digest": admin_digest,
            },
            "tenants": {"filed": {"rules": {"budget": {"daily_limit_usd": "5"}}, "providers": ["openai"]}},
            "version": "9.9.9",
        }
    )
    callers = Callers(state.auth)
    database, ledger = KeyDatabase(str(state.db_path), callers, None, lambda: NOW_MS), Ledger(str(state.db_path))
    master = {"AION_MASTER_KEY": base64.b64encode(os.urandom(32)).decode()}
    told: list[int] = []

    async def in_flight() -> None:
        return None

    deps = Deps(
        state=state,
        ledger=ledger,
        callers=callers,
        keys=database,
        vault=Vault.from_env(master if env is None else env),
        health=Health(),
        in_flight=in_flight,
        keys_changed=lambda: told.append(callers.version),
        now_ms=lambda: NOW_MS,
    )
    app = create_app(deps)
    with TestClient(app) as client:
        yield Admin(app, client, directory, deps, told)
    database.close()
    ledger.close()


@pytest.fixture
def admin(tmp_path: Path) -> Iterator[Admin]:
    with admin_api(tmp_path, admin_digest=digest(ADMIN)) as running:
        yield running


PATHS = [("GET", "/keys"), ("POST", "/keys"), ("GET", "/tenants"), ("GET", "/openapi.json"), ("GET", "/nothing")]


@pytest.mark.parametrize(("method", "path"), PATHS)
def test_without_a_secret_it_is_not_there(tmp_path: Path, method: str, path: str) -> None:
    with admin_api(tmp_path) as off:
        answer = off.ask(method, path)
        elsewhere = off.client.request(method, f"/other{path}", headers={"X-Admin-Secret": ADMIN})
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")
    assert answer.text.replace("/admin/", "/other/") == elsewhere.text


@pytest.mark.parametrize(("method", "path"), PATHS)
def test_nothing_is_said_without_the_secret(admin: Admin, method: str, path: str) -> None:
    for headers in (
        {},
        {"x-admin-secret": ""},
        {"x-admin-secret": ADMIN + "x"},
        {"x-admin-secret": digest(ADMIN)},
        {"authorization": ADMIN},
        {"authorization": f"Basic {ADMIN}"},
        {"authorization": "Bearer sk-configured"},
        {"x-api-key": ADMIN},
    ):
        answer = admin.client.request(method, f"/admin{path}", headers=headers)
        assert (answer.status_code, answer.headers["cache-control"]) == (401, "no-store")
        assert answer.json()["error"]["code"] == "invalid_admin_secret"
    answer = admin.client.get("/admin/keys", headers={"authorization": f"Bearer {ADMIN}"})
    assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-store")


def test_a_key_is_shown_once_and_works_at_once(admin: Admin) -> None:
    rules = {"name": "ci", "tenant": "acme", "models": ["gpt*"], "expires_at": "2100-01-01", "budget": BUDGET}
    answer = admin.ask("POST", "/keys", rules)
    assert (answer.status_code, answer.headers["cache-control"]) == (201, "no-store")
    made = answer.json()
    key = made.pop("key")
    assert admin.models(key) == 200
    assert admin.told == [admin.deps.callers.version]
    listed = admin.ask("GET", "/keys")
    assert key not in listed.text
    configured, stored = listed.json()["keys"]
    assert stored == made
    assert (stored["source"], stored["state"], stored["budget"]) == ("store", "active", BUDGET)
    assert stored["hint"] == key[-4:]
    assert stored["expires_at"] == "2100-01-01T00:00:00Z"
    assert datetime.fromisoformat(stored["created_at"]).timestamp() * 1000 == NOW_MS
    assert (configured["name"], configured["source"], configured["hint"]) == ("from-file", "config", None)
    assert admin.get("/tenants/acme")["source"] == "store"


def test_a_revoked_key_is_refused_at_once(admin: Admin) -> None:
    key, kept = admin.create("ci"), admin.create("kept")
    answer = admin.ask("DELETE", "/keys/ci")
    assert (answer.status_code, answer.content) == (204, b"")
    assert (admin.models(key), admin.models(kept)) == (401, 200)
    states = {one["name"]: one["state"] for one in admin.get("/keys")["keys"]}
    assert states == {"from-file": "active", "ci": "revoked", "kept": "active"}
    assert admin.ask("DELETE", "/keys/ci").status_code == 404


def test_a_rotated_key(admin: Admin) -> None:
    first = admin.create("ci", tiers=[1])
    answer = admin.ask("POST", "/keys/ci/rotate", {"overlap_seconds": 60})
    assert (answer.status_code, answer.json()["tiers"]) == (200, [1])
    second = answer.json()["key"]
    assert (admin.models(first), admin.models(second)) == (200, 200)
    third = admin.ask("POST", "/keys/ci/rotate").json()["key"]
    assert [admin.models(key) for key in (first, second, third)] == [401, 401, 200]


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "name"),
        ({"name": "a b"}, "name"),
        ({"name": "x" * 65}, "name"),
        ({"name": "a", "wibble": 1}, "wibble"),
        ({"name": "a", "tiers": [4]}, "tiers.0"),
        ({"name": "a", "models": []}, "models"),
        ({"name": "a", "expires_at": "soon"}, "expires_at"),
        ({"name": "a", "expires_at": "0001-01-01T00:00:00+14:00"}, "expires_at"),
        ({"name": "a", "budget": {}}, "budget"),
        ({"name": "a", "budget": {"daily_limit_usd": 0}}, "budget.daily_limit_usd"),
        ({"name": "a", "limits": {"requests_per_minute": 0}}, "limits.requests_per_minute"),
        ({"name": "a", "\ud800": 1}, None),
        ([], None),
        ("text", None),
    ],
)
def test_what_is_wrong_is_told_by_its_place(admin: Admin, body: Any, param: str | None) -> None:
    answer = admin.ask("POST", "/keys", body)
    error = answer.json()["error"]
    assert (answer.status_code, error["param"], error["code"]) == (422, param, "invalid_parameter")
    assert admin.told == []


def test_what_cannot_be_read_is_told_so(admin: Admin) -> None:
    answer = admin.client.post("/admin/keys", data={"name": "ci"}, headers={"X-Admin-Secret": ADMIN})
    assert (answer.status_code, "Content-Type: application/json" in answer.text) == (422, True)
    for content in (b"{", b"\xff", b"", b'{"name": ' + b"1" * 5000 + b"}", b"[" * 100_000):
        answer = admin.client.post("/admin/keys", content=content, headers={"X-Admin-Secret": ADMIN})
        assert answer.status_code in (400, 422)
        assert set(answer.json()["error"]) == {"message", "type", "param", "code"}


def test_conflicts_with_the_configuration_and_the_store(admin: Admin) -> None:
    admin.create("ci")
    for method, path, body in (
        ("POST", "/keys", {"name": "ci"}),
        ("POST", "/keys", {"name": "from-file"}),
        ("DELETE", "/keys/from-file", None),
        ("POST", "/keys/from-file/rotate", None),
        ("DELETE", "/tenants/filed", None),
        ("DELETE", "/tenants/filed/keys/openai", None),
    ):
        answer = admin.ask(method, path, body)
        assert (answer.status_code, answer.json()["error"]["code"]) == (409, "conflict"), path


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("DELETE", "/keys/nobody"),
        ("POST", "/keys/nobody/rotate"),
        ("GET", "/tenants/nobody"),
        ("DELETE", "/tenants/nobody"),
        ("GET", "/tenants/nobody/keys"),
        ("GET", "/tenants/nobody/stats"),
        ("DELETE", "/tenants/nobody/keys/openai"),
        ("DELETE", "/tenants/filed/keys/local"),
        ("GET", "/nothing"),
    ],
)
def test_what_is_not_there_is_404(admin: Admin, method: str, path: str) -> None:
    answer = admin.ask(method, path)
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")


def test_names_in_paths_are_names(admin: Admin) -> None:
    for path in ("/keys/a%20b", "/keys/-", "/tenants/%2e%2e%00", "/tenants/acme/keys/" + "x" * 65):
        assert admin.ask("DELETE", path).status_code == 422


def test_a_tenant_from_its_first_limit_to_its_end(admin: Admin) -> None:
    answer = admin.ask("PUT", "/tenants/acme", {"budget": {"daily_limit_usd": 5}})
    assert (answer.status_code, answer.json()["budget"]) == (200, BUDGET)
    key = admin.create("ci", tenant="acme")
    answer = admin.ask("POST", "/tenants/acme/keys", {"provider": "openai", "api_key": PROVIDER_KEY})
    assert (answer.status_code, answer.json()["hint"]) == (201, PROVIDER_KEY[-4:])
    assert PROVIDER_KEY not in answer.text
    listed = admin.ask("GET", "/tenants/acme/keys")
    assert listed.json()["provider_keys"] == [answer.json()]
    assert [one["id"] for one in admin.get("/tenants")["tenants"]] == ["acme", "filed"]
    assert admin.ask("DELETE", "/tenants/acme/keys/openai").status_code == 204
    assert admin.get("/tenants/acme/keys") == {"provider_keys": []}
    assert admin.ask("DELETE", "/tenants/acme").status_code == 204
    assert admin.ask("GET", "/tenants/acme").status_code == 404
    assert admin.models(key) == 401
    assert [one["id"] for one in admin.get("/tenants")["tenants"]] == ["filed"]


def test_what_is_stored_of_a_tenant_goes_over_the_configuration(admin: Admin) -> None:
    for provider in ("local", "openai"):
        body = {"provider": provider, "api_key": PROVIDER_KEY}
        assert admin.ask("POST", "/tenants/filed/keys", body).status_code == 201
    admin.ask("PUT", "/tenants/filed", {"limits": {"requests_per_minute": 7}})
    found = admin.get("/tenants/filed")
    assert (found["source"], found["budget"], found["limits"]["requests_per_minute"]) == ("config", BUDGET, 7)
    held = [(key["provider"], key["source"]) for key in found["provider_keys"]]
    assert held == [("local", "store"), ("openai", "store")]
    assert admin.ask("DELETE", "/tenants/filed/keys/openai").status_code == 204
    held = [(key["provider"], key["source"]) for key in admin.get("/tenants/filed")["provider_keys"]]
    assert held == [("local", "store"), ("openai", "config")]


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"provider": "nobody", "api_key": PROVIDER_KEY}, "openai, local, openrouter, vllm"),
        ({"provider": "openai", "api_key": f"{PROVIDER_KEY}\n"}, "api_key"),
        ({"provider": "openai", "api_key": ""}, "api_key"),
        ({"provider": "openai", "api_key": [PROVIDER_KEY]}, "api_key"),
        ({"provider": [PROVIDER_KEY], "api_key": "x"}, "provider"),
    ],
)
def test_a_refused_provider_key_is_not_echoed(admin: Admin, body: Any, says: str) -> None:
    answer = admin.ask("POST", "/tenants/acme/keys", body)
    assert (answer.status_code, says in answer.text) == (422, True)
    assert PROVIDER_KEY not in answer.text
    assert admin.ask("GET", "/tenants/acme").status_code == 404


def test_without_a_master_key_all_else_works(tmp_path: Path) -> None:
    with admin_api(tmp_path, {}, digest(ADMIN)) as admin:
        answer = admin.ask("POST", "/tenants/acme/keys", {"provider": "openai", "api_key": PROVIDER_KEY})
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "no_master_key")
        assert "openssl rand -base64 32" in answer.text
        assert PROVIDER_KEY not in answer.text
        assert admin.models(admin.create("ci", tenant="acme")) == 200


def test_the_stats_of_a_tenant_are_its_own(admin: Admin) -> None:
    row = LedgerRow(
        request_id="1",
        at_ms=NOW_MS - 1000,
        outcome="served",
        status=200,
        tenant="acme",
        key_name="ci",
        provider="openai",
        model="gpt-4o-mini",
        tier=1,
        cost_nano=500,
        baseline_nano=2000,
        baseline_model="o1",
    )
    refused = LedgerRow(request_id="2", at_ms=NOW_MS - 1000, outcome="refused", status=400, tenant="acme")
    others = LedgerRow(request_id="3", at_ms=NOW_MS - 1000, outcome="served", status=200, tenant="other", cost_nano=7)
    admin.deps.ledger.add([row, refused, others])
    found = admin.get("/tenants/acme/stats?range=1h")  # known by its rows alone
    assert (found["tenant"], found["range"], found["savings"]["total_requests"]) == ("acme", "1h", 2)
    assert (found["savings"]["total_cost_nano"], found["savings"]["savings_nano"]) == (500, 1500)
    assert [(one["model"], one["cost_nano"]) for one in found["costs"]["by_model"]] == [("gpt-4o-mini", 500)]
    assert {one["outcome"]: one["requests"] for one in found["by_outcome"]} == {"served": 1, "refused": 1}
    assert admin.get("/tenants/filed/stats")["savings"]["total_requests"] == 0
    assert admin.ask("GET", "/tenants/acme/stats?range=2h").status_code == 422


def test_a_database_that_does_not_answer_is_told(admin: Admin) -> None:
    admin.create("ci")
    engine = admin.deps.keys.engine
    with engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE keys RENAME TO elsewhere")
    answer = admin.ask("GET", "/keys")
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "database_unavailable")
    assert "elsewhere" not in answer.text


def test_the_document_needs_the_secret_and_names_both_ways_to_present_it(admin: Admin) -> None:
    assert admin.client.get("/admin/openapi.json").status_code == 401
    document = admin.get("/openapi.json")
    assert {one["type"] for one in document["components"]["securitySchemes"].values()} == {"apiKey", "http"}
    operation = document["paths"]["/keys"]["post"]
    assert set(operation["responses"]) == {"201", "400", "401", "404", "409", "411", "413", "422", "503"}
    assert "admin" not in admin.client.get("/aion/openapi.json", headers={"x-api-key": "sk-configured"}).text


def test_a_body_may_have_a_mebibyte_and_says_how_long_it_is(admin: Admin) -> None:
    named = {"X-Admin-Secret": ADMIN, "content-type": "application/json"}
    body = json.dumps({"name": "ci"}).encode()

    def posted(content: bytes | Iterator[bytes]) -> tuple[int, str]:
        answer = admin.client.post("/admin/keys", content=content, headers=named)
        return answer.status_code, str(answer.json().get("error", {}).get("code"))

    assert posted(body.ljust((1 << 20) + 1)) == (413, "body_too_large")
    assert posted(iter([body])) == (411, "length_required")
    assert posted(body.ljust(1 << 20)) == (201, "None")
