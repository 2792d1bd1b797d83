"""Who gets into the HTTP API, and what each may see of it."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from starlette.requests import Request

from aion_extproc.api.callers import Callers, admit
from aion_extproc.api.state import AuthState
from aion_extproc.config.access import KeyRules
from aion_extproc.stores.database import connect
from aion_extproc.stores.keys import KeyStore
from aion_extproc.stores.keys_follow import KeyDatabase
from aion_extproc.stores.scope import EVERYTHING, Scope
from tests.unit.test_admin import NOW_MS, admin_api, digest
from tests.unit.test_api import MODELS

EVERY_ID = ["aion-auto", "aion-escalate", "aion-local", "gpt-4o-mini", "qwen", "meta/llama-70b"]


def auth(*rules: dict[str, Any]) -> AuthState:
    """With a key `sk-<name>` for each."""
    keys = [{"digest": digest(f"sk-{rule['name']}"), "rules": rule} for rule in rules]
    return AuthState.model_validate({"enabled": True, "keys": keys})


def request(**headers: str) -> Request:
    named = [(name.replace("_", "-").encode(), value.encode("latin-1")) for name, value in headers.items()]
    return Request({"type": "http", "method": "GET", "path": "/aion/v1/metrics/costs", "headers": named})


def scope(rules: dict[str, Any], **headers: str) -> Scope:
    known = auth(rules)
    asked = request(x_api_key=f"sk-{rules['name']}", **headers)
    assert admit(asked, known, Callers(known), NOW_MS) is None
    found = asked.state.scope
    assert isinstance(found, Scope)
    return found


def refused(known: AuthState, callers: Callers | None = None, /, **headers: str) -> tuple[int, str]:
    if callers is None:
        callers = Callers(known)
        callers.version = 1  # of an empty database
    answer = admit(request(**headers), known, callers, NOW_MS)
    assert answer is not None
    return answer.status_code, json.loads(bytes(answer.body))["error"]["code"]


def test_whoever_is_not_asked_for_a_key_sees_everything() -> None:
    asked = request(x_tenant_id="acme")
    assert admit(asked, AuthState(), Callers(AuthState()), NOW_MS) is None
    assert asked.state.scope == EVERYTHING


@pytest.mark.parametrize(
    ("rules", "header", "expected"),
    [
        ({"tenant": "acme"}, None, Scope(tenant="acme")),
        ({"tenant": "acme"}, "other", Scope(tenant="acme")),
        ({"tenant": "acme", "trusted": True}, "other", Scope(tenant="acme")),
        ({"trusted": True}, "acme", Scope(tenant="acme")),
        ({"trusted": True}, None, EVERYTHING),
        ({"trusted": True}, "", EVERYTHING),
        ({}, None, Scope(tenant="", key_name="ci")),
        ({}, "acme", Scope(tenant="", key_name="ci")),
    ],
)
def test_the_scope_of_a_caller(rules: dict[str, Any], header: str | None, expected: Scope) -> None:
    headers = {} if header is None else {"x_tenant_id": header}
    assert scope({"name": "ci", **rules}, **headers) == expected


def test_a_tenant_that_is_no_name_is_refused() -> None:
    known = auth({"name": "ci", "trusted": True})
    for tenant in ("a b", "../acme", "x" * 65, "é"):
        assert refused(known, x_api_key="sk-ci", x_tenant_id=tenant) == (400, "invalid_header")


def test_of_a_header_that_comes_twice_the_last_counts() -> None:
    """As for requests to models: what a proxy has added stands behind what its client wrote."""
    known = auth({"name": "ci", "trusted": True})
    twice = [(b"x-api-key", b"wrong"), (b"x-api-key", b"sk-ci"), (b"x-tenant-id", b"a"), (b"x-tenant-id", b"b")]
    asked = Request({"type": "http", "method": "GET", "path": "/v1/models", "headers": twice})
    assert admit(asked, known, Callers(known), NOW_MS) is None
    assert asked.state.scope == Scope(tenant="b")


def test_either_header_will_do_and_a_wrong_one_does_no_harm() -> None:
    known = auth({"name": "ci"}, {"name": "other"})
    for headers in (
        {"authorization": "Bearer sk-ci"},
        {"authorization": "bearer  sk-ci "},
        {"x_api_key": "sk-ci"},
        {"authorization": "Bearer wrong", "x_api_key": "sk-ci"},
        {"authorization": "Bearer sk-ci", "x_api_key": "sk-other"},
    ):
        asked = request(**headers)
        assert admit(asked, known, Callers(known), NOW_MS) is None
        assert asked.state.rules.name == "ci"
    for headers in ({}, {"authorization": "Basic sk-ci"}, {"authorization": "sk-ci"}, {"x_api_key": digest("sk-ci")}):
        assert refused(known, **headers) == (401, "invalid_api_key")


def test_an_expired_key_is_refused() -> None:
    for seconds, late in ((1, False), (0, True), (-1, True)):
        until = datetime.fromtimestamp(NOW_MS / 1000 + seconds, UTC).isoformat()
        known = auth({"name": "ci", "expires_at": until})
        if late:
            assert refused(known, x_api_key="sk-ci") == (401, "invalid_api_key")
        else:
            assert admit(request(x_api_key="sk-ci"), known, Callers(known), NOW_MS) is None


def test_a_key_of_the_database_ends_when_its_time_has_come(tmp_path: Path) -> None:
    at_ms = NOW_MS
    engine = connect(str(tmp_path / "aion.db"))
    known = auth()
    callers = Callers(known)
    store = KeyStore(engine, lambda: at_ms)
    first = store.create(KeyRules(name="ci"))
    store.rotate("ci", 60)
    database = KeyDatabase(str(tmp_path / "aion.db"), callers, None, lambda: at_ms)
    asyncio.run(database.refresh())
    assert admit(request(x_api_key=first), known, callers, at_ms + 59_999) is None
    assert admit(request(x_api_key=first), known, callers, at_ms + 60_000) is not None
    database.close()
    engine.dispose()


def test_until_the_database_was_read_nobody_is_told_that_his_key_is_wrong(tmp_path: Path) -> None:
    known = auth({"name": "ci"})
    callers = Callers(known)
    (tmp_path / "file").touch()
    database = KeyDatabase(str(tmp_path / "file" / "aion.db"), callers, None)
    asyncio.run(database.refresh())
    assert refused(known, callers, x_api_key="sk-of-the-database") == (503, "keys_unavailable")
    assert admit(request(x_api_key="sk-ci"), known, callers, NOW_MS) is None


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        ({}, EVERY_ID),
        ({"tiers": [1, 2, 3]}, EVERY_ID[:1] + EVERY_ID[2:]),  # there is no model of tier 3
        ({"tiers": [2]}, ["aion-auto", "meta/llama-70b"]),
        ({"models": ["qwen"]}, ["aion-auto", "aion-local", "qwen"]),
        ({"models": ["openai/*", "vllm/*"]}, ["aion-auto", "gpt-4o-mini", "meta/llama-70b"]),
        ({"models": ["gpt-9"]}, []),
        ({"models": ["meta/*"], "tiers": [1]}, []),
    ],
)
def test_a_key_sees_the_models_that_it_may_use(tmp_path: Path, rules: dict[str, Any], expected: list[str]) -> None:
    with admin_api(tmp_path, admin_digest=digest("x")) as running:
        key = KeyStore(running.deps.keys.engine).create(KeyRules.model_validate({"name": "ci", **rules}))
        assert running.client.portal is not None
        running.client.portal.call(running.deps.keys.refresh)
        headers = {"authorization": f"Bearer {key}"}
        listed = running.client.get("/v1/models", headers=headers).json()["data"]
        assert [model["id"] for model in listed] == expected
        for id_ in (*EVERY_ID, "gpt-9"):
            status = running.client.get(f"/v1/models/{id_}", headers=headers).status_code
            assert status == (200 if id_ in expected else 404)
        backends = running.client.get("/v1/backends", headers=headers).json()["backends"]
        shown = {(one["provider"], model["model"]) for one in backends for model in one["models"]}
        assert shown <= {(model["provider"], model["id"]) for model in MODELS if model["id"] in expected}
        if "vllm/*" in rules.get("models", ()):
            assert ("openrouter", "meta/llama-70b") not in shown
