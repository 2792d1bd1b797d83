"""Starting, stopping, and everything that can break between client and provider."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection

from aion_extproc.extproc.http2 import GOAWAY
from tests.support.answers import CHAT, CHAT_EVENTS, DONE, MESSAGE_EVENTS
from tests.support.configs import two_providers
from tests.support.gateway import Gateway, clean_env, free_ports, running, wait_for
from tests.support.grpc_peer import frames
from tests.support.upstream import Answer, Received, Upstream

PATIENT = {"drain_delay": "2s", "drain_timeout": "60s"}
USER = [{"role": "user", "content": "hello"}]


def stream(model: str = "aion-auto", **more: Any) -> dict[str, Any]:
    return {"model": model, "messages": USER, "stream": True, "max_tokens": 50, **more}


def test_ctrl_c_stops_everything_and_loses_no_row(tmp_path: Path) -> None:
    gate = threading.Event()

    def answer(request: Received) -> Answer:
        if json.loads(request.body).get("stream"):
            return Answer(content_type="text/event-stream", chunks=[*CHAT_EVENTS, gate])
        return Answer(chunks=[b"{}"])

    with Upstream(answer) as upstream, running(tmp_path, two_providers(upstream), None, "--workers", "2") as gateway:
        pids = gateway.children("")
        done = [gateway.post("/v1/chat/completions", {"model": "aion-auto", "messages": USER}) for _ in range(20)]
        with httpx.stream("POST", gateway.url + "/v1/chat/completions", json=stream(), timeout=30) as open_stream:
            chunks = open_stream.iter_raw()
            next(chunks)
            # the last answers are a moment old, one stream is open: now
            seconds = gateway.stop()
            with pytest.raises(httpx.HTTPError):
                list(chunks)
        assert seconds < 3
        assert gateway.process.returncode == 0
        rows = {row.request_id: row for row in gateway.rows()}
        assert {answer.headers["x-request-id"] for answer in done} <= set(rows)
        cut = rows[open_stream.headers["x-request-id"]]
        assert (cut.outcome, cut.estimated) == ("cut", True)
        assert cut.cost_nano is not None
        assert len(pids) == 5
        assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]


def test_sigterm_lets_what_is_open_end(tmp_path: Path) -> None:
    gate = threading.Event()

    def answer(request: Received) -> Answer:
        if json.loads(request.body).get("stream"):
            return Answer(content_type="text/event-stream", chunks=[*CHAT_EVENTS, gate, DONE])
        return Answer(chunks=[CHAT])

    with Upstream(answer) as upstream, running(tmp_path, two_providers(upstream, gateway=PATIENT)) as gateway:
        client = httpx.Client(timeout=30)  # keeps its connection
        assert client.get(gateway.url + "/health").json()["status"] == "ok"
        body = {"model": "gpt-small", "messages": USER}
        with httpx.stream("POST", gateway.url + "/v1/chat/completions", json=stream(), timeout=60) as open_stream:
            chunks = open_stream.iter_raw()
            text = next(chunks)
            gateway.process.send_signal(signal.SIGTERM)
            # Whoever asks is told at once to go elsewhere; who has not heard of it is served.
            health = wait_for(lambda: told if (told := client.get(gateway.url + "/health")).is_error else None)
            assert (health.status_code, health.json()["status"]) == (503, "draining")
            assert health.headers["connection"] == "close"
            late = gateway.post("/v1/chat/completions", body)
            assert (late.status_code, late.headers["connection"]) == (200, "close")
            assert GOAWAY in _http2_frames(gateway.port)
            wait_for(lambda: _refuses_connections(gateway.port))
            assert gateway.process.poll() is None
            gate.set()
            text += b"".join(chunks)
        gateway.process.wait(10)
    assert text == b"".join([*CHAT_EVENTS, DONE])
    assert gateway.process.returncode == 0
    rows = {row.request_id: row.outcome for row in gateway.rows()}
    assert rows == {late.headers["x-request-id"]: "served", open_stream.headers["x-request-id"]: "served"}


@pytest.mark.parametrize("ended_by", ["drain_timeout", "a second signal"])
def test_sigterm_waits_no_longer_than_it_may(tmp_path: Path, ended_by: str) -> None:
    held = Answer(content_type="text/event-stream", chunks=[*CHAT_EVENTS, threading.Event()])
    patience = PATIENT if ended_by == "a second signal" else {"drain_delay": "100ms", "drain_timeout": "2s"}
    with (
        Upstream(partial(_always, held)) as upstream,
        running(tmp_path, two_providers(upstream, gateway=patience)) as gateway,
        httpx.stream("POST", gateway.url + "/v1/chat/completions", json=stream(), timeout=60) as open_stream,
    ):
        chunks = open_stream.iter_raw()
        next(chunks)
        gateway.process.send_signal(signal.SIGTERM)
        if ended_by == "a second signal":
            wait_for(lambda: httpx.get(gateway.url + "/health").is_error)
            assert gateway.stop() < 3
        else:
            time.sleep(1)  # well before its time nothing has ended
            assert gateway.process.poll() is None
            gateway.process.wait(4)
        with pytest.raises(httpx.HTTPError):
            list(chunks)
    assert gateway.process.returncode == 0
    (row,) = gateway.rows()
    assert (row.outcome, row.estimated) == ("cut", True)


def _http2_frames(port: int) -> list[int]:
    """The kinds of frames that answer a request, and come with the answer."""
    h2 = H2Connection(H2Configuration(client_side=True))
    h2.initiate_connection()
    h2.send_headers(1, [(":method", "GET"), (":path", "/health"), (":scheme", "http"), (":authority", "x")], True)
    received = b""
    with socket.create_connection(("127.0.0.1", port), 0.5) as connection, contextlib.suppress(TimeoutError):
        connection.sendall(h2.data_to_send())
        while part := connection.recv(65536):
            received += part
    return [kind for kind, *_ in frames(received)]


def _refuses_connections(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def test_a_client_that_hangs_up_frees_the_provider_and_is_billed(gateway: Gateway, provider: Upstream) -> None:
    for path, events in (("/v1/chat/completions", CHAT_EVENTS), ("/v1/messages", MESSAGE_EVENTS)):
        provider.disconnected.clear()
        never = threading.Event()
        held = Answer(content_type="text/event-stream", chunks=[*events[:-1], never])
        provider.answer = partial(_always, held)
        with httpx.stream("POST", gateway.url + path, json=stream(), timeout=30) as answer:
            seen = b""
            for chunk in answer.iter_raw():
                seen += chunk
                if len(seen) >= sum(map(len, events[:-1])):
                    break
        assert provider.disconnected.wait(5), "the provider goes on generating for nobody"
        row = gateway.row(answer.headers["x-request-id"])
        assert (row.outcome, row.error, row.estimated) == ("cut", "client_gone", True)
        assert row.usage.input_tokens > 0
        assert 0 < row.usage.output_tokens <= 50
        assert row.cost_nano


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages"])
def test_a_provider_that_hangs_up_before_it_answers(gateway: Gateway, provider: Upstream, path: str) -> None:
    provider.answer = lambda _: Answer(hang_up_first=True)
    model = "gpt-spare" if path == "/v1/chat/completions" else "claude-large"
    answer = gateway.post(path, {"model": model, "messages": USER, "max_tokens": 5})
    assert answer.status_code == 503
    assert answer.headers["content-type"] == "application/json"
    error = answer.json()
    if path == "/v1/messages":
        assert (error["type"], error["error"]["type"]) == ("error", "api_error")
        assert error["request_id"] == answer.headers["x-request-id"]
    else:
        assert error["error"]["code"] == "gateway_error"
    assert "closed the connection" in error["error"]["message"]
    row = gateway.row(answer.headers["x-request-id"])
    assert (row.outcome, row.error, row.cost_nano) == ("failed", "upstream_closed", 0)


def test_a_provider_that_breaks_off_in_the_middle(gateway: Gateway, provider: Upstream) -> None:
    provider.answer = lambda _: Answer(content_type="text/event-stream", chunks=CHAT_EVENTS[:2], break_off=True)
    with (
        httpx.stream("POST", gateway.url + "/v1/chat/completions", json=stream("gpt-spare"), timeout=30) as answer,
        pytest.raises(httpx.HTTPError),
    ):
        answer.read()
    row = gateway.row(answer.headers["x-request-id"])
    assert (row.outcome, row.estimated) == ("cut", True)
    assert row.error.startswith("upstream")


def test_a_provider_that_is_not_there_is_given_up_after_a_few_tries(tmp_path: Path) -> None:
    with Upstream(lambda _: Answer()) as upstream:
        config = two_providers(upstream)
    (dead,) = free_ports(1)
    config["providers"]["openai"]["base_url"] = f"http://127.0.0.1:{dead}/v1"
    with running(tmp_path, config) as gateway:
        body = {"model": "gpt-small", "messages": USER}
        first = gateway.post("/v1/chat/completions", body)
        assert first.status_code == 503
        assert "could not connect" in first.json()["error"]["message"]
        assert gateway.row(first.headers["x-request-id"]).error == "connect_failed"
        # Nobody can stand in for the named one, but aion-auto finds the others as dead and says when to come again.
        answer = wait_for(lambda: _refused(gateway, body | {"model": "aion-auto"}))
        assert int(answer.headers["retry-after"]) > 0
        assert "gpt-small" in answer.json()["error"]["message"]


def _always(answer: Answer, _: Received) -> Answer:
    return answer


def _refused(gateway: Gateway, body: object) -> httpx.Response | None:
    answer = gateway.post("/v1/chat/completions", body)
    return answer if answer.json()["error"]["code"] == "no_healthy_model" else None


def test_without_a_config_and_keys_the_demo_answers(tmp_path: Path) -> None:
    with running(tmp_path, None) as gateway:
        assert "DEMO" in gateway.log
        answer = gateway.post("/v1/chat/completions", {"model": "aion-auto", "messages": USER})
        assert answer.headers["x-aion-provider"] == "demo"
        models = httpx.get(gateway.url + "/v1/models").json()["data"]
        assert {model["owned_by"] for model in models if model["id"].startswith("demo")} == {"demo"}
        lines = re.findall(r"^curl .*$", gateway.log, re.MULTILINE)
        assert len(lines) == 3
        for line in lines:
            done = subprocess.run(f"{line} -sf", shell=True, capture_output=True, timeout=30, check=False)
            assert done.returncode == 0, line
            assert json.loads(done.stdout)


def test_keys_in_the_environment_are_found(tmp_path: Path) -> None:
    keys = {"OPENAI_API_KEY": "sk-one", "ANTHROPIC_API_KEY": "sk-ant-two"}
    with running(tmp_path, None, keys) as gateway:
        assert "OPENAI_API_KEY in the environment" in gateway.log
        assert "DEMO" not in gateway.log
        assert "sk-one" not in gateway.log
        ids = [model["id"] for model in httpx.get(gateway.url + "/v1/models").json()["data"]]
        assert any(name.startswith("claude-") for name in ids)


def test_a_port_in_use_is_said_at_once(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        command = [sys.executable, "-m", "aion_extproc.cli", "up", "--port", str(port)]
        done = subprocess.run(command, cwd=tmp_path, env=clean_env(), capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert f"127.0.0.1:{port}" in done.stderr
    assert "Traceback" not in done.stderr


def test_whatever_dies_is_started_again(tmp_path: Path) -> None:
    with running(tmp_path, None) as gateway:
        body = {"model": "demo-small", "messages": USER}  # by its name, or it would be left out for a while
        for module in ("aion_extproc.demo.upstream", "aion_extproc.api.server", "bootstrap.json"):
            (pid,) = gateway.children(module)
            os.kill(pid, signal.SIGSEGV if module == "bootstrap.json" else signal.SIGKILL)
            wait_for(partial(_another, gateway, module, pid))
            wait_for(lambda: _status(gateway, "GET", "/health") == 200)
            wait_for(lambda: _status(gateway, "POST", "/v1/chat/completions", body) == 200)
        # What Envoy has to say goes through us (gateway/envoy_log.py).
        assert "Caught Segmentation fault" in gateway.log


def _another(gateway: Gateway, module: str, pid: int) -> bool:
    return gateway.children(module) not in ([], [pid])


def _status(gateway: Gateway, method: str, path: str, body: object = None) -> int:
    """0 when nobody answers."""
    try:
        return httpx.request(method, gateway.url + path, json=body, timeout=5).status_code
    except httpx.HTTPError:
        return 0


def test_no_process_outlives_a_killed_supervisor(tmp_path: Path) -> None:
    with running(tmp_path, None) as gateway:
        pids = gateway.children("")
        assert pids
        os.kill(gateway.process.pid, signal.SIGKILL)
        gateway.process.wait(5)
        wait_for(lambda: not [pid for pid in pids if _alive(pid)])


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1][0] != "Z"
    except OSError:
        return False
