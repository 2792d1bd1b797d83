"""Every kind of secret in one gateway that serves, refuses, fails and is harmed; then none of them is anywhere."""

from __future__ import annotations

import base64
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import psycopg

from tests.support.answers import as_asked
from tests.support.configs import two_providers
from tests.support.gateway import Gateway, clean_env, running, wait_for
from tests.support.postgres import PASSWORD as POSTGRES_PASSWORD
from tests.support.postgres import Postgres
from tests.support.redis import PASSWORD as REDIS_PASSWORD
from tests.support.redis import RedisServer, redis_server
from tests.support.upstream import Answer, Received, Upstream

CHAT = "/v1/chat/completions"
# What the file takes from the environment.
ENV = {
    "OPENAI_SECRET": "sk-openai-S3CR3T-0123456789",
    "ANTHROPIC_SECRET": "sk-ant-S3CR3T-0123456789",
    "ACME_AT_OPENAI": "sk-acme-at-openai-S3CR3T-01",
    "ADMIN_SECRET": "admin-S3CR3T-0123456789",
    "CALLER_KEY": "sk-caller-S3CR3T-0123456789",
    "TRUSTED_KEY": "sk-trusted-S3CR3T-0123456789",
    "REDIS_PASSWORD": REDIS_PASSWORD,
    "POSTGRES_PASSWORD": POSTGRES_PASSWORD,
    "HOOK_TOKEN": "hook-token-S3CR3T-0123456789",
    "HOOK_SECRET": base64.b64encode(os.urandom(32)).decode(),
    "AION_MASTER_KEY": base64.b64encode(os.urandom(32)).decode(),
    "AION_MASTER_KEY_OLD": base64.b64encode(os.urandom(32)).decode(),
}
# What comes while it runs; the last two are nobody's.
BLUE_AT_OPENAI = "sk-blue-at-openai-S3CR3T-01"
WRONG_KEY, WRONG_ADMIN = "sk-wrong-S3CR3T-0123456789", "admin-wrong-S3CR3T-0123"
NEXT_CALLER, UNREADABLE = "sk-next-S3CR3T-0123456789", "unreadable-S3CR3T-0123456789"


def upstream(request: Received) -> Answer:
    """The one with the large model repeats the key that it refuses."""
    model = json.loads(request.body)["model"]
    if model == "gpt-large":
        said = f"{request.header('authorization')} is wrong"
        return Answer(status=401, chunks=[json.dumps({"error": {"message": said}}).encode()])
    return as_asked(request)


def configured(models: Upstream, hook: Upstream, redis: RedisServer, database: str, spool: Path) -> dict[str, Any]:
    hooks: list[dict[str, Any]] = [
        {"url": f"{hook.url}/hook/${{HOOK_TOKEN}}?token=${{HOOK_TOKEN}}", "allow_private": True},
        {"url": "https://localhost/${HOOK_TOKEN}"},  # refused: it is private
    ]
    config = two_providers(
        models,
        gateway={"workers": 2},
        auth={
            "admin_secret": "${ADMIN_SECRET}",
            "keys": [
                {"key": "${CALLER_KEY}", "name": "caller", "budget": {"daily_limit_usd": "0.01", "warn_at": [1, 100]}},
                {"key": "${TRUSTED_KEY}", "name": "agent", "trusted": True, "limits": {"requests_per_minute": 1000}},
            ],
        },
        tenants={"acme": {"provider_keys": {"openai": "${ACME_AT_OPENAI}"}}},
        state={"redis_url": f"redis://:${{REDIS_PASSWORD}}@127.0.0.1:{redis.port}/0", "timeout": "1s"},
        webhooks=[{**one, "secret": "${HOOK_SECRET}"} for one in hooks],
        telemetry={
            "db_url": database.replace(POSTGRES_PASSWORD, "${POSTGRES_PASSWORD}"),
            "flush_interval": "50ms",
            "spool_dir": str(spool),
        },
    )
    config["providers"]["openai"]["api_key"] = "${OPENAI_SECRET}"
    config["providers"]["anthropic"]["api_key"] = "${ANTHROPIC_SECRET}"
    return config


def ask(gateway: Gateway, key: str, model: str = "gpt-small", path: str = CHAT, **more: Any) -> httpx.Response:
    headers = {name: more.pop(name) for name in [name for name in more if name.startswith("x_")]}
    body = {"model": model, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 9, **more}
    return gateway.post(path, body, authorization=f"Bearer {key}", **headers)


def admin(gateway: Gateway, method: str, path: str, body: Any = None, secret: str = "") -> httpx.Response:
    headers = {"X-Admin-Secret": secret or ENV["ADMIN_SECRET"]}
    return httpx.request(method, f"{gateway.url}/admin{path}", json=body, headers=headers, timeout=30)


def get(gateway: Gateway, path: str, key: str) -> httpx.Response:
    return httpx.get(gateway.url + path, headers={"x-api-key": key}, timeout=30)


def aion(gateway: Gateway, *arguments: str) -> str:
    command = [sys.executable, "-m", "aion_extproc.cli", *arguments, "-c", str(gateway.directory / "aion.yaml")]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=60, env=clean_env() | ENV, check=False
    )
    return done.stdout + done.stderr


@contextmanager
def overheard(path: Path) -> Iterator[list[bytes]]:
    """What the processes tell each other, while the block runs."""
    heard: list[bytes] = []
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as spy:
        spy.bind(str(path))
        spy.settimeout(0.1)
        over = threading.Event()

        def listen() -> None:
            while not over.is_set():
                try:
                    heard.append(spy.recv(65536))
                except TimeoutError:
                    continue

        thread = threading.Thread(target=listen)
        thread.start()
        try:
            yield heard
        finally:
            over.set()
            thread.join()
            path.unlink()


def serve_and_refuse(gateway: Gateway) -> list[str]:
    """The keys that were made on the way."""
    caller, trusted = ENV["CALLER_KEY"], ENV["TRUSTED_KEY"]
    assert ask(gateway, caller).status_code == 200
    assert ask(gateway, trusted, "claude-small", x_tenant_id="acme").status_code == 200
    assert ask(gateway, trusted, stream=True, x_tenant_id="acme").status_code == 200
    later = ask(gateway, trusted, "aion-escalate", x_aion_tags="a,b")
    assert (later.status_code, later.headers["x-aion-attempts"]) == (200, "2")
    assert ask(gateway, trusted, "gpt-large").status_code == 401
    assert ask(gateway, WRONG_KEY).status_code == get(gateway, "/v1/models", WRONG_KEY).status_code == 401
    assert get(gateway, f"/v1/models?key={caller}", trusted).status_code == 200
    wait_for(lambda: ask(gateway, caller, max_tokens=5000).status_code == 429)  # and with it a webhook
    made = admin(gateway, "POST", "/keys", {"name": "blue-app", "tenant": "blue"}).json()["key"]
    rotated = admin(gateway, "POST", "/keys/blue-app/rotate", {"overlap_seconds": 60}).json()["key"]
    stored = {"provider": "openai", "api_key": BLUE_AT_OPENAI}
    assert admin(gateway, "POST", "/tenants/blue/keys", stored).status_code == 201
    assert admin(gateway, "POST", "/tenants/blue/keys", {**stored, "api_key": f"{BLUE_AT_OPENAI} "}).status_code == 422
    assert admin(gateway, "POST", "/keys", {"name": BLUE_AT_OPENAI, "expires_at": BLUE_AT_OPENAI}).status_code == 422
    assert admin(gateway, "GET", "/keys", secret=WRONG_ADMIN).status_code == 401
    for key in (made, rotated):
        wait_for(lambda key=key: ask(gateway, key).status_code == 200)  # type: ignore[misc]
    return [made, rotated]


def be_harmed(gateway: Gateway, redis: RedisServer, server: Postgres, spool: Path) -> None:
    trusted = ENV["TRUSTED_KEY"]

    def served() -> bool:
        return ask(gateway, trusted).status_code == 200

    for module in ("extproc.worker", "extproc.ledger_process", "api.server"):
        os.kill(gateway.children(module)[0], signal.SIGKILL)
        wait_for(served)
    redis.kill()
    assert ask(gateway, ENV["CALLER_KEY"]).status_code == 503
    server.kill()
    wait_for(lambda: served() and any(spool.glob("*.rows")))
    wait_for(lambda: get(gateway, "/aion/v1/stats", trusted).status_code == 503)
    assert admin(gateway, "POST", "/keys", {"name": "later"}).status_code == 503


def reload(gateway: Gateway) -> None:
    """Files that cannot be used, and one that can."""
    path = gateway.directory / "aion.yaml"
    good = json.loads(path.read_text())
    wrong, elsewhere = json.loads(json.dumps(good)), json.loads(json.dumps(good))
    wrong["state"]["redis_url"] = f"redis://:{UNREADABLE}@host@127.0.0.1"
    wrong["telemetry"]["db_url"] = f"mysql://aion:{UNREADABLE}@127.0.0.1/aion"
    wrong["webhooks"][0] |= {"url": f"ftp://user:{UNREADABLE}@host", "secret": UNREADABLE}
    wrong["auth"] |= {"admin_secret": [UNREADABLE], "keys": [{"name": "a", "key": f"{UNREADABLE} "}, UNREADABLE]}
    wrong["tenants"]["acme"] = {"provider_keys": {"openai": f"{UNREADABLE} "}}
    elsewhere["telemetry"]["db_url"] = f"postgresql://aion:{UNREADABLE}@127.0.0.1/aion"  # takes a restart
    texts = [json.dumps(wrong), json.dumps(elsewhere), f"auth: {{admin_secret: *{UNREADABLE}}}"]
    for count, text in enumerate(texts, 1):
        path.write_text(text)
        wait_for(lambda count=count: gateway.log.count("reload_refused") == count)  # type: ignore[misc]
    good["auth"]["keys"].append({"key": NEXT_CALLER, "name": "next"})
    path.write_text(json.dumps(good))
    wait_for(lambda: "reload_applied" in gateway.log)
    assert ask(gateway, NEXT_CALLER).status_code == 200


def places(gateway: Gateway, redis: RedisServer, database: str) -> Iterator[tuple[str, bytes]]:
    """All that somebody else may read, by its name."""
    for file in (*gateway.run_dir.rglob("*"), gateway.directory / "aion.log"):
        if file.is_file():
            yield str(file), file.read_bytes()
    yield "metrics", gateway.metrics().encode()
    for query in ("config_dump?include_eds", "stats", "clusters", "listeners", "server_info"):
        yield query, gateway.envoy_admin(query).encode()
    for path in ("/keys", "/tenants", "/tenants/acme", "/tenants/blue/keys", "/tenants/blue/stats", "/openapi.json"):
        yield f"/admin{path}", admin(gateway, "GET", path).content
    for path in ("/v1/models", "/v1/backends", "/aion/v1/stats?by=key", "/aion/v1/metrics/costs", "/health"):
        yield path, get(gateway, path, ENV["TRUSTED_KEY"]).content
    for command in ("render", "keys list --json", "tenants list --json", "report --json"):
        yield command, aion(gateway, *command.split()).encode()
    for pid in gateway.children(""):
        yield f"command line of {pid}", Path(f"/proc/{pid}/cmdline").read_bytes()
    (envoy,) = gateway.children("bootstrap.json")
    yield "environment of Envoy", Path(f"/proc/{envoy}/environ").read_bytes()
    with psycopg.connect(database) as connection:
        tables = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
        for (table,) in tables:
            yield table, repr(connection.execute(f"SELECT t::text FROM {table} t".encode()).fetchall()).encode()
    for name in redis.command("KEYS", "*").split():
        for read in ("GET", "HGETALL", "ZRANGE"):
            yield name, redis.command(read, name, *(["0", "-1"] if read == "ZRANGE" else [])).encode()


def found_in(secrets: list[str], text: bytes) -> list[str]:
    """Those that it has, as they are or as they are commonly written."""
    return [
        secret
        for secret in secrets
        if any(form.encode() in text for form in {secret, quote(secret, safe=""), json.dumps(secret)[1:-1]})
        or base64.b64encode(secret.encode()).rstrip(b"=")[:-1] in text
    ]


def private(path: Path) -> bool:
    return not path.stat().st_mode & 0o077


def test_no_secret_is_anywhere(postgres_server: Postgres, postgres_url: str, tmp_path: Path) -> None:
    spool = tmp_path / "spool"
    with (
        redis_server(tmp_path / "redis") as redis,
        Upstream(upstream) as models,
        Upstream(lambda _: Answer(status=204, chunks=[b""])) as hook,
    ):
        config = configured(models, hook, redis, postgres_url, spool)
        with running(tmp_path / "gateway", config, ENV) as gateway:
            with overheard(gateway.run_dir / "spy.bus") as heard:
                made = serve_and_refuse(gateway)
                wait_for(lambda: hook.received)
                # They look for peers when they have something to tell, and not more often than once a second.
                wait_for(lambda: ask(gateway, made[0]).is_success and any(b"session" in news for news in heard))
            secrets = [*ENV.values(), *made, BLUE_AT_OPENAI, WRONG_KEY, WRONG_ADMIN, NEXT_CALLER, UNREADABLE]
            be_harmed(gateway, redis, postgres_server, spool)
            shown = {path.name: path.read_bytes() for path in spool.glob("*.rows")}
            assert all(map(private, [gateway.run_dir, gateway.run_dir / "api.json", spool, *spool.iterdir()]))
            redis.start()
            postgres_server.start()
            wait_for(lambda: not any(spool.glob("*.rows")))
            reload(gateway)
            shown |= dict(places(gateway, redis, postgres_url))
            shown |= {"bus": b"\n".join(heard), "webhooks": b"".join(one.body for one in hook.received)}
            shown["webhooks' headers"] = repr([one.headers for one in hook.received]).encode()
            gateway.stop()
        shown["log after the end"] = gateway.log.encode()
        assert len(shown) > 60, sorted(shown)
        leaks = [(where, secret) for where, text in shown.items() for secret in found_in(secrets, text)]
        assert leaks == []
        # The test would see them: a provider was sent the right ones.
        sent = repr([one.headers for one in models.received]).encode()
        keys = [ENV["OPENAI_SECRET"], ENV["ANTHROPIC_SECRET"], ENV["ACME_AT_OPENAI"], BLUE_AT_OPENAI]
        assert found_in(secrets, sent) == sorted(keys, key=secrets.index)
