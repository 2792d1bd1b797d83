"""Workers that are replaced while they serve: nobody notices, and no row is lost."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.support.answers import CHAT, MESSAGE_EVENTS, as_asked
from tests.support.configs import two_providers
from tests.support.gateway import Gateway, running, wait_for
from tests.support.steady import steady
from tests.support.upstream import Answer, Received, Upstream

MEBIBYTE = 1 << 20
MEMORY = 128 * MEBIBYTE


@pytest.fixture(scope="module")
def provider() -> Iterator[Upstream]:
    with Upstream(as_asked) as upstream:
        yield upstream


@pytest.fixture(scope="module")
def gateway(provider: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    limits = {"worker_memory_bytes": MEMORY, "worker_open_bytes": 1 << 30}
    config = two_providers(provider, gateway={"workers": 2, **limits})
    with running(tmp_path_factory.mktemp("rolling"), config) as gateway:
        yield gateway


def workers(gateway: Gateway) -> set[int]:
    return set(gateway.children("extproc.worker"))


@contextlib.contextmanager
def held_stream(gateway: Gateway, provider: Upstream, gate: threading.Event) -> Iterator[httpx.Response]:
    """A stream that has begun and does not go on before the gate opens; translated, so that a worker takes part."""

    def answer(request: Received) -> Answer:
        if json.loads(request.body)["model"] == "claude-large":
            return Answer(content_type="text/event-stream", chunks=[*MESSAGE_EVENTS[:4], gate, *MESSAGE_EVENTS[4:]])
        return as_asked(request)

    provider.answer = answer
    body = {"model": "claude-large", "messages": [{"role": "user", "content": "hello"}], "stream": True}
    with httpx.stream("POST", gateway.url + "/v1/chat/completions", json=body, timeout=60) as stream:
        yield stream


def restart_workers(gateway: Gateway) -> None:
    """Returns when the new ones serve; of the old ones those are left that are not done."""
    before = gateway.log.count("workers_restarted")
    gateway.process.send_signal(signal.SIGUSR2)
    wait_for(lambda: gateway.log.count("workers_restarted") > before, 60)


def test_a_rolling_restart_under_load_loses_nothing(gateway: Gateway, provider: Upstream) -> None:
    before, gate = workers(gateway), threading.Event()
    with held_stream(gateway, provider, gate) as stream, steady(gateway) as load:
        chunks = stream.iter_raw()
        text = next(chunks)
        restart_workers(gateway)
        load.more(100)
        wait_for(lambda: len(before & workers(gateway)) == 1)  # the one that the stream is on
        gate.set()
        text += b"".join(chunks)
        wait_for(lambda: not before & workers(gateway))
    assert b'"content":"four"' in text
    assert text.endswith(b"data: [DONE]\n\n")
    assert gateway.row(stream.headers["x-request-id"]).outcome == "served"
    load.check_rows(gateway)
    assert len(workers(gateway)) == 2
    assert 'aion_worker_replacements_total{reason="restart"} 3.0' in gateway.metrics()  # the ledger's too
    assert "aion_worker_restarts_total 0.0" in gateway.metrics()  # nobody died


def test_a_worker_that_hangs_while_it_leaves_is_ended(gateway: Gateway, provider: Upstream) -> None:
    before, never = workers(gateway), threading.Event()
    with held_stream(gateway, provider, never) as stream:
        chunks = stream.iter_raw()
        next(chunks)
        restart_workers(gateway)
        (leaving,) = wait_for(lambda: left if len(left := before & workers(gateway)) == 1 else None)
        os.kill(leaving, signal.SIGSTOP)
        with pytest.raises(httpx.HTTPError):
            list(chunks)
        wait_for(lambda: leaving not in workers(gateway))
    row = gateway.row(stream.headers["x-request-id"])
    assert (row.outcome, row.error) == ("cut", "worker_lost")
    assert len(workers(gateway)) == 2


def test_a_worker_that_holds_too_much_memory_is_replaced_and_ends_its_work(
    gateway: Gateway, provider: Upstream
) -> None:
    provider.answer = as_asked
    before = workers(gateway)
    text = "x" * (15 * MEBIBYTE)
    body = json.dumps({"model": "gpt-small", "messages": [{"role": "user", "content": text}]}).encode()
    with contextlib.ExitStack() as stack, steady(gateway) as load:
        halves = [http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=60) for _ in range(10)]
        for connection in halves:
            stack.callback(connection.close)
            connection.putrequest("POST", "/v1/chat/completions")
            connection.putheader("content-length", str(len(body)))
            connection.endheaders(body[:-100])
        replaced = wait_for(lambda: before - workers_on_duty(gateway))
        for connection in halves:
            connection.send(body[-100:])
            answer = connection.getresponse()
            assert (answer.status, answer.read()) == (200, CHAT)
        wait_for(lambda: not replaced & workers(gateway))
    load.check_rows(gateway)
    assert "leaking" in gateway.log
    wait_for(lambda: re.search(r'aion_worker_replacements_total\{reason="memory"\} [12]\.0', gateway.metrics()))


def workers_on_duty(gateway: Gateway) -> set[int]:
    """Those that Envoy sends requests to."""
    sockets = gateway.open_on_workers()
    commands = {pid: Path(f"/proc/{pid}/cmdline").read_text() for pid in workers(gateway)}
    return {pid for pid, command in commands.items() if any(socket in command for socket in sockets)}
