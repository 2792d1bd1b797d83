"""A worker that dies, stops or hangs: its own open requests get a clear error within five seconds, others nothing."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import http.client
import json
import os
import select
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from benchmarks.load import Client
from tests.support.answers import CHAT, as_asked
from tests.support.configs import two_providers
from tests.support.gateway import Gateway, running, wait_for
from tests.support.upstream import Answer, Received, Upstream

CONNECTIONS = 8
BODY = json.dumps({"model": "aion-auto", "messages": [{"role": "user", "content": "hello"}]}).encode()


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with (
        Upstream(as_asked) as upstream,
        running(tmp_path_factory.mktemp("chaos"), two_providers(upstream), None, "--workers", "2") as gateway,
    ):
        yield gateway


@dataclass
class Sent:
    at: float  # monotonic, when it was sent
    seconds: float
    status: int
    body: bytes


def load_during(gateway: Gateway, harm: Callable[[], object], healed: Callable[[], bool]) -> tuple[float, list[Sent]]:
    """Requests on all connections while `harm` is done and until after `healed`; when harm was done.

    Besides the load there are requests of which each worker has the first half, so that whoever is harmed has some.
    """
    sent: list[Sent] = []
    done = threading.Event()

    async def one() -> None:
        client = Client("127.0.0.1", gateway.port)
        while not done.is_set():
            start = time.monotonic()
            answer = await client.post("/v1/chat/completions", BODY)
            sent.append(Sent(start, time.monotonic() - start, answer.status, answer.body))
        client.close()

    async def everybody() -> None:
        await asyncio.gather(*(one() for _ in range(CONNECTIONS)))

    halves = halves_on_every_worker(gateway)
    thread = threading.Thread(target=lambda: asyncio.run(everybody()))
    watching: list[threading.Thread] = []
    thread.start()
    try:
        wait_for(lambda: len(sent) > 50)
        at = time.monotonic()
        harm()
        watching = [threading.Thread(target=half.watch, args=(at, done)) for half in halves]
        for watcher in watching:
            watcher.start()
        wait_for(healed)
        count = len(sent)
        wait_for(lambda: len(sent) > count + 100)
    finally:
        done.set()
        thread.join(30)
    for watcher in watching:
        watcher.join(30)
    return at, sent + [half.sent for half in halves if half.sent]


class Half:
    """A request whose second half is sent when all is over, unless an answer comes before."""

    def __init__(self, port: int) -> None:
        self.sent: Sent | None = None
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        self._connection.putrequest("POST", "/v1/chat/completions")
        self._connection.putheader("content-type", "application/json")
        self._connection.putheader("content-length", str(len(BODY)))
        self._connection.endheaders(BODY[:20])

    def watch(self, since: float, finish: threading.Event) -> None:
        while not select.select([self._connection.sock], [], [], 0.02)[0] and not finish.is_set():
            pass
        seconds = time.monotonic() - since
        with contextlib.suppress(OSError):  # an answer that came early closes the connection
            self._connection.send(BODY[20:])
        answer = self._connection.getresponse()
        self.sent = Sent(since, seconds, answer.status, answer.read())
        self._connection.close()


def halves_on_every_worker(gateway: Gateway) -> list[Half]:
    """Sent until each worker has two of them; a worker that was just replaced needs a moment for that."""
    halves: list[Half] = []

    def enough() -> bool:
        open_now = gateway.open_on_workers()
        if len(open_now) == 2 and min(open_now.values()) > 2:  # one may be the stream of the access log
            return True
        if len(halves) < sum(open_now.values()) + 4:
            halves.append(Half(gateway.port))
        return False

    wait_for(enough)
    return halves


def replaced(gateway: Gateway, pid: int) -> Callable[[], bool]:
    def look() -> bool:
        workers = gateway.children("extproc.worker")
        return pid not in workers and len(workers) == 2

    return look


def judge(sent: list[Sent], harmed_at: float, most: int) -> list[Sent]:
    """The failed ones, after checking that each is a clear and timely error and that all others are whole."""
    failed = [one for one in sent if one.status != 200]
    assert all(one.body == CHAT for one in sent if one.status == 200)
    for one in failed:
        assert one.seconds < 5, one
        assert one.status in (500, 503), one
        assert json.loads(one.body)["error"]["code"] == "gateway_error"
    assert failed, "what was on the harmed worker did not fail: this test has shown nothing"
    assert len(failed) <= most, [(one.at - harmed_at, one.seconds) for one in failed]
    served_meanwhile = [one for one in sent if one.status == 200 and harmed_at < one.at < harmed_at + 3]
    assert len(served_meanwhile) > 20
    return failed


def test_killed(gateway: Gateway) -> None:
    pid = gateway.children("extproc.worker")[0]
    at, sent = load_during(gateway, lambda: os.kill(pid, signal.SIGKILL), replaced(gateway, pid))
    # Only what was on it in that moment.
    failed = judge(sent, at, 2 * CONNECTIONS)
    assert all(one.at <= at + 0.2 for one in failed)
    assert wait_for(lambda: "aion_worker_restarts_total 1.0" in gateway.metrics())


def test_stopped(gateway: Gateway) -> None:
    pid = gateway.children("extproc.worker")[0]
    at, sent = load_during(gateway, lambda: os.kill(pid, signal.SIGSTOP), replaced(gateway, pid))
    judge(sent, at, 4 * CONNECTIONS)


def test_blocked(gateway: Gateway) -> None:
    """Only the thread of the event loop stands still: the process lives, and its other threads run."""
    pid = gateway.children("extproc.worker")[0]
    with one_thread_held(pid) as hold:
        at, sent = load_during(gateway, hold, replaced(gateway, pid))
    judge(sent, at, 4 * CONNECTIONS)


def test_a_request_that_a_worker_took_down_has_its_row(gateway: Gateway) -> None:
    """Envoy's log tells of it, to another worker."""
    pid = gateway.children("extproc.worker")[0]
    at, sent = load_during(gateway, lambda: os.kill(pid, signal.SIGSTOP), replaced(gateway, pid))
    failed = judge(sent, at, 4 * CONNECTIONS)
    wait_for(lambda: sum(row.error == "worker_lost" for row in gateway.rows()) >= len(failed))


CHAIN = {"match": {"model": "gpt-small"}, "steps": [{"model": "gpt-small"}, {"model": "claude-small"}]}


@contextlib.contextmanager
def second_attempt_on_stopped_workers(tmp_path: Path, size: int) -> Iterator[tuple[Gateway, Future[Any], list[int]]]:
    """A gateway, the answer to a request of that size whose second model is just to be asked, and the workers, of which
    one was to write its request: they all stand still."""
    asked, fail = threading.Event(), threading.Event()

    def answer(request: Received) -> Answer:
        if json.loads(request.body)["model"] != "gpt-small":
            return as_asked(request)
        asked.set()
        assert fail.wait(20)
        return Answer(status=503, chunks=[b'{"error":{"message":"no"}}'])

    config = {"chains": [CHAIN]}
    with (
        Upstream(answer) as upstream,
        running(tmp_path, two_providers(upstream, routing=config), None, "--workers", "2") as gateway,
        ThreadPoolExecutor() as pool,
    ):
        body = {"model": "gpt-small", "messages": [{"role": "user", "content": "x" * size}], "max_tokens": 5}
        answered = pool.submit(gateway.post, "/v1/chat/completions", body)
        assert asked.wait(20)
        workers = gateway.children("extproc.worker")
        for pid in workers:
            os.kill(pid, signal.SIGSTOP)
        opened = gateway.envoy_stat("cluster.aion_extproc.upstream_rq_active")
        fail.set()
        wait_for(lambda: gateway.envoy_stat("cluster.aion_extproc.upstream_rq_active") >= opened + 1)
        yield gateway, answered, workers


def test_a_large_request_is_given_to_the_next_model_while_no_worker_reads(tmp_path: Path) -> None:
    """It waits for its worker, and the gateway stays up: the upstream filters of Envoy 1.40 crash it then."""
    with second_attempt_on_stopped_workers(tmp_path, 5_000_000) as (gateway, answered, workers):
        (envoy,) = gateway.children("bootstrap.json")
        for pid in workers:
            os.kill(pid, signal.SIGCONT)
        answer = answered.result()
        assert (answer.status_code, answer.headers["x-aion-attempts"]) == (200, "2")
        assert gateway.children("bootstrap.json") == [envoy]


def test_a_worker_that_is_lost_with_the_last_attempt_is_no_model_s_fault(tmp_path: Path) -> None:
    with second_attempt_on_stopped_workers(tmp_path, 10) as (gateway, answered, workers):
        for pid in workers:
            os.kill(pid, signal.SIGKILL)
        answer = answered.result()
        assert (answer.status_code, answer.json()["error"]["code"]) == (500, "gateway_error")
        assert "x-aion-ended" not in answer.headers
        row = gateway.row(answer.headers["x-request-id"])
        assert (row.outcome, row.error, row.attempts, row.cost_nano) == ("failed", "worker_lost", 2, 0)
        backends = httpx.get(f"{gateway.url}/v1/backends", timeout=10).json()
        models = {m["model"]: m["failures"] for one in backends["backends"] for m in one["models"]}
        assert (models["gpt-small"], models["claude-small"]) == (1, 0)


_PTRACE_SEIZE, _PTRACE_INTERRUPT, _WALL = 0x4206, 0x4207, 0x40000000


@contextlib.contextmanager
def one_thread_held(pid: int) -> Iterator[Callable[[], None]]:
    """Yields what stops the main thread of a process, and no other; somebody must kill it then."""
    stop, held = threading.Event(), threading.Event()
    problems: list[int] = []

    def trace() -> None:  # a tracer is one thread: all calls must come from it
        libc = ctypes.CDLL(None, use_errno=True)
        stop.wait()
        for request in (_PTRACE_SEIZE, _PTRACE_INTERRUPT):
            if libc.ptrace(request, pid, None, None) != 0:
                problems.append(ctypes.get_errno())
        held.set()
        # The dead must be collected by its tracer before its parent, the supervisor, can see that it is dead.
        with contextlib.suppress(ChildProcessError):
            while os.WIFSTOPPED(os.waitpid(pid, _WALL)[1]):
                pass

    tracer = threading.Thread(target=trace)
    tracer.start()

    def hold() -> None:
        stop.set()
        assert held.wait(10)
        assert not problems, f"ptrace is not allowed here: {os.strerror(problems[0])}"

    try:
        yield hold
    finally:
        stop.set()
        tracer.join(10)
