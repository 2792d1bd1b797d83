"""More than a worker can hold is refused, in the client's shape and before memory grows."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import httpx
import pytest

from tests.support.answers import CHAT_EVENTS, as_asked
from tests.support.configs import two_providers
from tests.support.gateway import Gateway, running, wait_for
from tests.support.upstream import Answer, Received, Upstream

MOST = 3
BYTES = 200_000
PATHS = ["/v1/chat/completions", "/v1/messages"]
BODY = json.dumps(
    {"model": "gpt-small", "messages": [{"role": "user", "content": "x" * 60_000}], "max_tokens": 5}
).encode()


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    limits = {"worker_open_requests": MOST, "worker_open_bytes": BYTES, "max_body_bytes": BYTES}
    with Upstream(as_asked) as upstream:
        config = two_providers(upstream, gateway=limits)
        with running(tmp_path_factory.mktemp("overload"), config) as gateway:
            yield gateway


class Begun:
    """A request of which all but the last byte has been sent."""

    def __init__(self, port: int, size: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        self._connection.putrequest("POST", PATHS[0])
        self._connection.putheader("content-type", "application/json")
        self._connection.putheader("content-length", str(len(BODY)))
        self._connection.endheaders(BODY[:size])
        self._rest = BODY[size:]

    def finish(self) -> int:
        self._connection.send(self._rest)
        status = self._connection.getresponse().status
        self._connection.close()
        return status

    def leave(self) -> None:
        self._connection.close()


def ask(gateway: Gateway, path: str) -> httpx.Response:
    return gateway.post(path, {"model": "gpt-small", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 5})


def refused(gateway: Gateway, path: str) -> httpx.Response | None:
    answer = ask(gateway, path)
    return None if answer.status_code == 200 else answer


def refused_at_once(gateway: Gateway, path: str) -> httpx.Response | None:
    body = {"model": "gpt-small", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 5}
    with contextlib.suppress(httpx.TimeoutException):  # it was taken, and waits for its provider
        answer = httpx.post(gateway.url + path, json=body, timeout=0.5)
        return answer if answer.status_code == 503 else None
    return None


def refused_with(gateway: Gateway, body: bytes) -> httpx.Response | None:
    answer = gateway.post(PATHS[0], body)
    return None if answer.status_code == 200 else answer


def served(gateway: Gateway) -> bool:
    return ask(gateway, PATHS[0]).status_code == 200


@pytest.mark.parametrize("path", PATHS)
def test_what_is_too_much_is_refused_and_what_is_there_is_served(gateway: Gateway, path: str) -> None:
    begun = [Begun(gateway.port, 10) for _ in range(MOST)]
    answer = wait_for(lambda: refused(gateway, path))
    error = answer.json()
    if path == "/v1/messages":
        assert (answer.status_code, error["type"], error["error"]["type"]) == (529, "error", "overloaded_error")
    else:
        assert (answer.status_code, error["error"]["code"]) == (503, "overloaded")
    assert answer.headers["retry-after"] == "1"
    row = gateway.row(answer.headers["x-request-id"])
    assert (row.outcome, row.error) == ("refused", "overloaded")
    # Those that were there first lose nothing, and then there is room again.
    assert [one.finish() for one in begun] == [200] * MOST
    wait_for(lambda: served(gateway))


def test_bytes_count_as_they_come(gateway: Gateway) -> None:
    """Two that are nearly all here leave room for half of a third: the one whose bytes are too many goes."""
    first, second = Begun(gateway.port, 59_000), Begun(gateway.port, 59_000)
    big = json.dumps({"model": "gpt-small", "messages": [{"role": "user", "content": "x" * 150_000}]}).encode()
    answer = wait_for(lambda: refused_with(gateway, big))
    assert answer.json()["error"]["code"] == "overloaded"
    assert (first.finish(), second.finish()) == (200, 200)
    wait_for(lambda: gateway.post(PATHS[0], big).status_code == 200)


def test_clients_that_leave_in_the_middle_leave_no_load(gateway: Gateway) -> None:
    for _ in range(5):
        begun = [Begun(gateway.port, 20_000) for _ in range(MOST + 1)]
        for one in begun:
            one.leave()
    wait_for(lambda: served(gateway))
    begun = [Begun(gateway.port, 10) for _ in range(MOST - 1)]
    assert served(gateway)
    assert [one.finish() for one in begun] == [200] * (MOST - 1)


@pytest.mark.parametrize("path", PATHS)
def test_a_provider_has_no_more_requests_than_it_may_have(
    path: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    held = threading.Event()

    def answer(request: Received) -> Answer:
        stream = json.loads(request.body).get("stream")
        return Answer(content_type="text/event-stream", chunks=[CHAT_EVENTS[0], held]) if stream else as_asked(request)

    with Upstream(answer) as upstream:
        config = two_providers(upstream)
        config["providers"]["openai"]["max_requests"] = 1
        with running(tmp_path_factory.mktemp("breaker"), config) as gateway:
            body = {"model": "gpt-small", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 5}
            with httpx.stream("POST", gateway.url + PATHS[0], json=body | {"stream": True}, timeout=30) as stream:
                chunks = stream.iter_raw()
                next(chunks)
                with ThreadPoolExecutor() as pool:
                    waiting = pool.submit(gateway.post, PATHS[0], body)
                    wait_for(lambda: gateway.envoy_stat("cluster.provider_openai.upstream_rq_pending_active") == 1)
                    refused_ = gateway.post(path, body)
                    assert (refused_.status_code, refused_.headers["retry-after"]) == (503, "1")
                    assert "max_requests" in refused_.json()["error"]["message"]
                    assert gateway.row(refused_.headers["x-request-id"]).error == "overflow"
                    assert gateway.post(path, body | {"model": "claude-small"}).status_code == 200
                    held.set()
                    assert waiting.result().status_code == 200


@pytest.mark.parametrize("path", PATHS)
def test_a_client_that_does_not_read_holds_up_its_provider_and_fills_nobody(
    path: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Translated or not: what the client does not take is not asked for.

    A stream of 128 MB, so that what a process holds of it stands out from what it takes for its first request.
    """
    count, text = 8_000, "x" * 16_000
    head = '{"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":'
    event = f'data: {head}{{"content":"{text}"}},"finish_reason":null}}]}}\n\n'.encode()
    last = f'data: {head}{{}},"finish_reason":"stop"}}]}}\n\ndata: [DONE]\n\n'.encode()
    answer = Answer(content_type="text/event-stream", chunks=[event] * count + [last])
    with (
        Upstream(lambda _: answer) as upstream,
        running(tmp_path_factory.mktemp("slow"), two_providers(upstream)) as gateway,
    ):
        pids = gateway.children("")
        before = {pid: resident(pid) for pid in pids}
        body = {"model": "gpt-small", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 5, "stream": True}
        with httpx.stream("POST", gateway.url + path, json=body, timeout=60) as stream:
            chunks = stream.iter_raw()
            got = len(next(chunks))
            wait_for(lambda: stands_still(upstream))
            assert upstream.sent < count / 4
            for pid in pids:
                assert resident(pid) < before[pid] + 40e6, Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            got += sum(map(len, chunks))
        assert got > count * len(text)


def test_envoy_refuses_what_its_memory_has_no_room_for(tmp_path: Path) -> None:
    """Each request is kept until its answer begins, for it may have to be sent again."""
    answered = threading.Event()

    def answer(request: Received) -> Answer:
        if len(request.body) > 1_000_000:
            assert answered.wait(60)
        return as_asked(request)

    content = [{"role": "user", "content": "x" * 20_000_000}]
    large = json.dumps({"model": "gpt-small", "messages": content, "max_tokens": 5}).encode()
    with (
        Upstream(answer) as upstream,
        running(tmp_path, two_providers(upstream, gateway={"envoy_memory_bytes": 200 << 20})) as gateway,
        ThreadPoolExecutor(20) as pool,
    ):
        (envoy,) = gateway.children("bootstrap.json")
        kept = [pool.submit(gateway.post, PATHS[0], large) for _ in range(4)]
        wait_for(lambda: gateway.envoy_stat("cluster.provider_openai.upstream_rq_active") == len(kept))
        more = [pool.submit(gateway.post, path, large) for path in PATHS for _ in range(8)]
        for path in PATHS:
            error = wait_for(partial(refused_at_once, gateway, path), 30)
            assert (error.status_code, error.headers["retry-after"]) == (503, "1")
            assert "(overload)" in error.json()["error"]["message"]
        assert resident(envoy) < 450e6
        answered.set()
        assert [one.result().status_code for one in kept] == [200] * len(kept)
        for one in more:
            with contextlib.suppress(httpx.TransportError):  # its connection was closed while it was still sending
                assert one.result().status_code in (200, 503)
        wait_for(lambda: served(gateway))
        assert any(row.error == "overloaded" for row in gateway.rows())
        assert gateway.children("bootstrap.json") == [envoy]


def stands_still(upstream: Upstream) -> bool:
    """Whether nothing has been taken from the provider for half a second."""
    seen = upstream.sent
    deadline = time.monotonic() + 0.5
    while time.monotonic() < deadline:
        if upstream.sent != seen:
            return False
        time.sleep(0.01)
    return True


def resident(pid: int) -> int:
    """Bytes."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
