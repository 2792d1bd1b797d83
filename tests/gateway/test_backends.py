"""GET /v1/backends through Envoy, and servers of our own that Envoy looks after."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import trustme

from tests.support.answers import CHAT, CHAT_EVENTS, DONE, as_asked
from tests.support.gateway import Gateway, free_ports, running, wait_for
from tests.support.upstream import Answer, Received, Upstream

HELLO = [{"role": "user", "content": "hello"}]


def provider_of(gateway: Gateway, name: str) -> dict[str, Any]:
    answer = httpx.get(f"{gateway.url}/v1/backends", timeout=10)
    assert answer.status_code == 200
    found: dict[str, Any] = next(one for one in answer.json()["backends"] if one["provider"] == name)
    return found


def model_of(gateway: Gateway, provider: str, model: str) -> dict[str, Any]:
    found: dict[str, Any] = next(one for one in provider_of(gateway, provider)["models"] if one["model"] == model)
    return found


def test_open_requests_are_counted_by_provider(gateway: Gateway, provider: Upstream) -> None:
    gate = threading.Event()
    provider.answer = lambda _: Answer(content_type="text/event-stream", chunks=[*CHAT_EVENTS, gate, DONE])
    body = {"model": "gpt-small", "messages": HELLO, "stream": True}
    with contextlib.ExitStack() as stack:
        for _ in range(2):
            answer = stack.enter_context(httpx.stream("POST", f"{gateway.url}/v1/chat/completions", json=body))
            assert answer.status_code == 200
        assert provider_of(gateway, "openai")["in_flight"] == 2
        assert provider_of(gateway, "anthropic")["in_flight"] == 0
        gate.set()
    wait_for(lambda: provider_of(gateway, "openai")["in_flight"] == 0)


def test_what_was_served_shows_within_a_second(gateway: Gateway) -> None:
    before = model_of(gateway, "anthropic", "claude-mid")["requests"]
    body = {"model": "claude-mid", "messages": HELLO, "max_tokens": 9, "stream": True}
    assert gateway.post("/v1/messages", body).status_code == 200
    wait_for(lambda: model_of(gateway, "anthropic", "claude-mid")["requests"] == before + 1, 1)
    found = model_of(gateway, "anthropic", "claude-mid")
    assert (found["status"], found["why"], found["success_rate"]) == ("healthy", "", 1.0)
    assert 0 < found["first_byte_ms"] < 5000
    labels = '{model="claude-mid",provider="anthropic"}'
    assert f"aion_backend_up{labels} 1.0" in gateway.metrics()


def test_what_fails_says_why(gateway: Gateway, provider: Upstream) -> None:
    provider.answer = lambda _: Answer(status=503)
    for _ in range(3):
        assert gateway.post("/v1/chat/completions", {"model": "gpt-spare", "messages": HELLO}).status_code == 503
    wait_for(lambda: model_of(gateway, "openai", "gpt-spare")["status"] == "down", 1)
    found = model_of(gateway, "openai", "gpt-spare")
    assert found["why"] == "3 failures in a row, the last: provider_503"
    assert 20 < found["retry_in_seconds"] <= 30
    assert provider_of(gateway, "openai")["status"] == "degraded"
    assert model_of(gateway, "openai", "gpt-large")["status"] == "healthy"


# -- a server on the user's own machine


def local(port: int, kind: str = "vllm") -> dict[str, Any]:
    models = [{"id": "mine", "tier": 1}]
    return {"providers": {"box": {"kind": kind, "base_url": f"http://127.0.0.1:{port}/v1", "models": models}}}


def asked(gateway: Gateway, model: str = "aion-auto") -> tuple[int, float]:
    """The status, and how many seconds it took."""
    start = time.monotonic()
    status = gateway.post("/v1/chat/completions", {"model": model, "messages": HELLO}).status_code
    return status, time.monotonic() - start


def found_away(gateway: Gateway) -> bool:
    found = provider_of(gateway, "box")
    return (found["status"], found["why"]) == ("down", "its health check fails")


def up(request: Received) -> Answer:
    return Answer(chunks=[b"ok"]) if request.method == "GET" else as_asked(request)


@pytest.fixture
def port() -> int:
    return free_ports(1)[0]


def test_a_local_server_that_is_away_and_comes(port: int, tmp_path: Path) -> None:
    with contextlib.ExitStack() as outlives, running(tmp_path, local(port)) as gateway:
        wait_for(lambda: found_away(gateway), 15)  # without anybody's request
        answer = gateway.post("/v1/chat/completions", {"model": "aion-auto", "messages": HELLO})
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "no_healthy_model")
        assert 1 <= int(answer.headers["retry-after"]) <= 10
        for _ in range(3):  # who names it asks it, and it stays away
            assert asked(gateway, "mine")[0] == 503
        assert found_away(gateway)
        server = outlives.enter_context(Upstream(up, port=port))
        wait_for(lambda: asked(gateway)[0] == 200, 5)
        assert provider_of(gateway, "box")["status"] == "healthy"
        assert ("GET", "/health") in {(one.method, one.path) for one in server.received}


def test_a_local_server_that_was_away_for_a_moment_is_back_in_seconds(port: int, tmp_path: Path) -> None:
    """Three requests found it away, and nobody waits out their back-off."""
    with contextlib.ExitStack() as outlives, running(tmp_path, local(port)) as gateway:
        for _ in range(3):
            assert asked(gateway, "mine")[0] == 503
        wait_for(lambda: provider_of(gateway, "box")["status"] == "down", 1)
        outlives.enter_context(Upstream(up, port=port))
        wait_for(lambda: asked(gateway)[0] == 200, 10)


def test_a_local_server_that_hangs_is_not_waited_for(port: int, tmp_path: Path) -> None:
    with hanging(port), running(tmp_path, local(port)) as gateway:
        wait_for(lambda: found_away(gateway), 25)
        status, seconds = asked(gateway)
        assert status == 503
        assert seconds < 1


@contextlib.contextmanager
def hanging(port: int) -> Iterator[None]:
    """A server that takes connections and never answers."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", port))
        listening.listen(100)
        yield


@pytest.mark.parametrize("kind", ["llama.cpp", "ollama", "vllm"])
def test_a_server_that_knows_no_such_path_is_there_all_the_same(kind: str, tmp_path: Path) -> None:
    """Whatever stands behind a base_url: only who does not answer, or answers 5xx, is away."""

    def answer(request: Received) -> Answer:
        if request.method == "GET":
            return Answer(status=404, chunks=[json.dumps({"error": "not found"}).encode()])
        return Answer(chunks=[CHAT])

    with Upstream(answer) as server, running(tmp_path, local(server.port, kind)) as gateway:
        wait_for(lambda: sum(one.method == "GET" for one in server.received) > 1)
        assert asked(gateway)[0] == 200
        assert gateway.envoy_stat("cluster.provider_box.health_check.failure") == 0


def test_a_local_server_that_loads_its_model_is_not_there_yet(tmp_path: Path) -> None:
    """llama.cpp says 503 until it is ready."""
    ready = threading.Event()

    def answer(request: Received) -> Answer:
        return up(request) if ready.is_set() else Answer(status=503)

    with Upstream(answer) as server, running(tmp_path, local(server.port, "llama.cpp")) as gateway:
        wait_for(lambda: found_away(gateway))
        ready.set()
        wait_for(lambda: asked(gateway)[0] == 200, 5)


def test_a_local_server_is_asked_over_tls_too(tmp_path: Path) -> None:
    """hypercorn, which would rather speak HTTP/2. The demo knows no /health, and says so."""
    authority = trustme.CA()
    bundle, key, chain = tmp_path / "ca.pem", tmp_path / "key.pem", tmp_path / "chain.pem"
    authority.cert_pem.write_to_path(bundle)
    issued = authority.issue_cert("localhost")
    issued.private_key_pem.write_to_path(key)
    issued.cert_chain_pems[0].write_to_path(chain)
    (port,) = free_ports(1)
    files = ["--certfile", str(chain), "--keyfile", str(key)]
    command = [sys.executable, "-m", "hypercorn", "-b", f"127.0.0.1:{port}", *files, "aion_extproc.demo.upstream:app"]
    config = local(port)
    config["providers"]["box"]["base_url"] = f"https://localhost:{port}/v1"
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as server:
        try:
            with running(tmp_path, config, {"SSL_CERT_FILE": str(bundle)}) as gateway:
                wait_for(lambda: gateway.envoy_stat("cluster.provider_box.health_check.success") > 1)
                wait_for(lambda: asked(gateway)[0] == 200, 5)
        finally:
            server.terminate()
