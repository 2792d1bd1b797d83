"""Tenants through the whole gateway: stored keys, own provider keys, and nothing of another's to be seen."""

from __future__ import annotations

import base64
import json
import os
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tests.support.answers import as_asked
from tests.support.configs import two_providers
from tests.support.gateway import Gateway, running, wait_for
from tests.support.upstream import Upstream

ADMIN = "the-admin-secret-of-the-gateway"
MASTER = base64.b64encode(os.urandom(32)).decode()
CHAT, MESSAGES = "/v1/chat/completions", "/v1/messages"
OWN = {"red": "sk-red-at-openai-0123456789", "blue": "sk-blue-at-openai-0123456789"}
PROMPTS = ["hello", "and now?", "explain how a B-tree is balanced", "what is 2+2"]


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    with Upstream(as_asked) as upstream:
        yield upstream


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, upstream: Upstream) -> Iterator[Gateway]:
    """A provider that only tenants with a key of their own may use, and one that all share; sessions as usual."""
    config = two_providers(
        upstream,
        auth={"admin_secret": ADMIN, "keys": [{"key": "sk-agent-0123456789", "name": "agent", "trusted": True}]},
        gateway={"workers": 4},
        routing={"sessions": {"regeneration": "60s", "cache_lifetime": "5m"}},
    )
    del config["providers"]["openai"]["api_key"]
    config["providers"]["openai"]["tenant_keys_only"] = True
    with running(tmp_path_factory.mktemp("tenants"), config, {"AION_MASTER_KEY": MASTER}) as gateway:
        yield gateway


def admin(gateway: Gateway, method: str, path: str, body: Any = None) -> httpx.Response:
    headers = {"X-Admin-Secret": ADMIN}
    return httpx.request(method, f"{gateway.url}/admin{path}", json=body, headers=headers, timeout=30)


@pytest.fixture(scope="module")
def keys(gateway: Gateway) -> dict[str, str]:
    """A key for each tenant, known to all workers."""
    found = {}
    for tenant, own in OWN.items():
        answer = admin(gateway, "POST", "/keys", {"name": f"{tenant}-app", "tenant": tenant})
        assert answer.status_code == 201, answer.text
        found[tenant] = str(answer.json()["key"])
        assert admin(gateway, "POST", f"/tenants/{tenant}/keys", {"provider": "openai", "api_key": own}).is_success
    for key in found.values():
        everywhere(gateway, key, 200)
    return found


def everywhere(gateway: Gateway, key: str, status: int) -> None:
    """Until all four workers say so: the connections are new ones, and go round."""
    wait_for(lambda: all(ask(gateway, key, "probe").status_code == status for _ in range(12)))


def ask(gateway: Gateway, key: str, prompt: str, path: str = CHAT, **more: Any) -> httpx.Response:
    headers = {name: more.pop(name) for name in [n for n in more if n.startswith("x_")]}
    body = {"model": "gpt-small", "messages": [{"role": "user", "content": prompt}], "max_tokens": 50, **more}
    return gateway.post(path, body, authorization=f"Bearer {key}", **headers)


def stats(gateway: Gateway, path: str, key: str, **headers: str) -> dict[str, Any]:
    named = {"authorization": f"Bearer {key}"} | {name.replace("_", "-"): value for name, value in headers.items()}
    answer = httpx.get(f"{gateway.url}/aion/v1/{path}", params={"range": "all"}, headers=named, timeout=30)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def test_two_tenants_that_ask_the_same_never_meet(gateway: Gateway, upstream: Upstream, keys: dict[str, str]) -> None:
    upstream.received.clear()
    already = {tenant: rows(gateway, tenant) for tenant in keys}
    # Each asks each prompt once, in one session of the same name, on both APIs, all at once.
    asked = [
        (tenant, prompt, path)
        for prompt in PROMPTS
        for path in (CHAT, MESSAGES)
        for tenant in keys
    ]

    def one(what: tuple[str, str, str]) -> httpx.Response:
        tenant, prompt, path = what
        session = {"x_aion_session": f"{PROMPTS.index(prompt)}-{path}"}
        return ask(gateway, keys[tenant], prompt, path, model="aion-auto", **session)

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(one, asked))
    assert {answer.status_code for answer in answers} == {200}
    for answer in answers:
        # Had they met, the second one would have asked again, or have found something in a cache.
        assert "asked again" not in answer.headers["x-aion-reason"]
        assert "prompt cache" not in answer.headers["x-aion-reason"]
    owner = {answer.headers["x-request-id"]: tenant for answer, (tenant, _, _) in zip(answers, asked, strict=True)}
    used = Counter(
        (owner[request.header("x-request-id") or ""], request.header("authorization"))
        for request in upstream.received
        if request.path == CHAT
    )
    assert set(used) <= {(tenant, f"Bearer {own}") for tenant, own in OWN.items()}
    assert len({tenant for tenant, _ in used}) == 2
    for tenant in keys:
        mine = wait_for(lambda tenant=tenant: enough(gateway, tenant, already[tenant] + len(asked) // 2))  # type: ignore[misc]
        assert {row.tenant for row in mine if row.request_id in owner} == {tenant}
    # To ask again is noticed where it is the same tenant.
    again = ask(gateway, keys["red"], PROMPTS[0], model="aion-auto", x_aion_session=f"0-{CHAT}")
    assert "asked again" in again.headers["x-aion-reason"]


def rows(gateway: Gateway, tenant: str) -> int:
    return sum(row.tenant == tenant for row in gateway.rows())


def enough(gateway: Gateway, tenant: str, count: int) -> list[Any] | None:
    found = [row for row in gateway.rows() if row.tenant == tenant]
    return found if len(found) >= count else None


def test_each_sees_its_own_numbers(gateway: Gateway, keys: dict[str, str]) -> None:
    for _ in range(3):
        gateway.row(ask(gateway, keys["red"], "only red asks this").headers["x-request-id"])
    sums = {}

    def settled() -> bool:
        for tenant in keys:
            found = [row for row in gateway.rows() if row.tenant == tenant]
            sums[tenant] = (len(found), sum(row.cost_nano or 0 for row in found))
        shown = {tenant: stats(gateway, "metrics/savings", key) for tenant, key in keys.items()}
        return all(
            (shown[tenant]["total_requests"], shown[tenant]["total_cost_nano"]) == sums[tenant] for tenant in keys
        )

    wait_for(settled)
    assert sums["red"] != sums["blue"]
    for tenant, key in keys.items():
        for by in ("key", "tenant"):
            told = json.dumps(httpx.get(
                f"{gateway.url}/aion/v1/stats",
                params={"range": "all", "by": by},
                headers={"authorization": f"Bearer {key}"},
                timeout=30,
            ).json())
            other = "blue" if tenant == "red" else "red"
            assert f'"{tenant}' in told
            assert f'"{other}' not in told  # but "compared" is
        # An untrusted key asks in vain for somebody else's.
        assert stats(gateway, "metrics/costs", key, x_tenant_id="blue" if tenant == "red" else "red") == stats(
            gateway, "metrics/costs", key
        )
    trusted = "sk-agent-0123456789"
    everything = stats(gateway, "metrics/savings", trusted)["total_requests"]
    assert everything >= sums["red"][0] + sums["blue"][0]
    assert stats(gateway, "metrics/savings", trusted, x_tenant_id="red")["total_requests"] == sums["red"][0]
    of_admin = admin(gateway, "GET", "/tenants/red/stats?range=all")
    assert of_admin.status_code == 200
    assert "blue" not in of_admin.text


def test_without_a_key_of_its_own_a_tenant_skips_the_provider(gateway: Gateway, upstream: Upstream) -> None:
    trusted = "sk-agent-0123456789"
    denied = ask(gateway, trusted, "hi", x_tenant_id="green")
    assert (denied.status_code, denied.json()["error"]["code"]) == (403, "model_not_allowed")
    served = ask(gateway, trusted, "hi", model="aion-auto", x_tenant_id="green")
    assert served.headers["x-aion-provider"] == "anthropic"
    assert ask(gateway, trusted, "hi", x_tenant_id="red").status_code == 200
    assert upstream.last.header("authorization") == f"Bearer {OWN['red']}"


def test_a_budget_of_a_stored_key_holds_and_a_revoked_key_is_nobodys(gateway: Gateway) -> None:
    rules = {"name": "poor", "tenant": "red", "budget": {"daily_limit_usd": "0.000001"}}
    key = str(admin(gateway, "POST", "/keys", rules).json()["key"])
    everywhere(gateway, key, 429)
    assert admin(gateway, "DELETE", "/keys/poor").is_success
    everywhere(gateway, key, 401)


def test_a_tenants_budget_is_set_while_it_runs(gateway: Gateway, keys: dict[str, str]) -> None:
    assert admin(gateway, "PUT", "/tenants/blue", {"budget": {"monthly_limit_usd": "0.000001"}}).is_success
    everywhere(gateway, keys["blue"], 429)
    assert ask(gateway, keys["red"], "hi").status_code == 200
    assert admin(gateway, "PUT", "/tenants/blue", {}).is_success
    everywhere(gateway, keys["blue"], 200)


def test_a_deleted_tenant_is_gone(gateway: Gateway, keys: dict[str, str]) -> None:
    assert admin(gateway, "DELETE", "/tenants/blue").is_success
    everywhere(gateway, keys["blue"], 401)
    denied = ask(gateway, "sk-agent-0123456789", "hi", x_tenant_id="blue")
    assert denied.status_code == 403  # its provider keys went with it
    assert rows(gateway, "blue") > 0  # what it has spent stays
    assert keys["blue"] not in gateway.log


def test_no_secret_is_anywhere(gateway: Gateway, keys: dict[str, str]) -> None:
    secrets = [*OWN.values(), *keys.values(), MASTER, ADMIN, "sk-agent-0123456789"]
    files = [file for file in (*gateway.run_dir.rglob("*"), *gateway.directory.glob("aion.db*")) if file.is_file()]
    shown = {str(file): file.read_bytes().decode("latin-1") for file in files}
    shown |= {"log": gateway.log, "metrics": gateway.metrics(), "dump": gateway.envoy_admin("config_dump")}
    for secret in secrets:
        assert not [name for name, text in shown.items() if secret in text]
