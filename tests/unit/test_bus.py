"""News among processes: who hears what, and what does no harm. Each bus has a socket of its own, as in a gateway."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest

from aion_extproc.extproc.bus import BACKLOG_DATAGRAMS, BATCH_SECONDS, DATAGRAM_BYTES, Bus
from aion_extproc.extproc.shared_health import SharedHealth
from aion_extproc.routing.health import Health, Observation, Standing

pytestmark = pytest.mark.anyio
Payload = dict[str, Any]


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    return "asyncio", {"use_uvloop": request.param}


class Listener:
    """A bus that keeps what it hears of kind `t`, and tells newcomers what it has in `knows`."""

    def __init__(self, directory: Path, name: str, version: str = "1") -> None:
        self.heard: list[Payload] = []
        self.knows: list[Payload] = []
        self.bus = Bus(directory / f"{name}.bus", version)
        self.bus.subscribe("t", self.heard.append, lambda: self.knows)

    def numbers(self) -> list[int]:
        return [payload["n"] for payload in self.heard]


@contextmanager
def listening(directory: Path, *names: str, version: str = "1") -> Iterator[list[Listener]]:
    listeners = [Listener(directory, name, version) for name in names]
    for one in listeners:
        one.bus.open()
    try:
        yield listeners
    finally:
        for one in listeners:
            one.bus.close()


async def until(condition: Callable[[], bool], seconds: float = 10) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 (news have no event for us)
            await asyncio.sleep(0.005)


async def acquainted(*listeners: Listener) -> None:
    """Until each has heard of each, and all hellos are over."""
    for one in listeners:
        others = [other for other in listeners if other is not one]
        one.bus.publish("t", {"n": None}, urgent=True)
        await until(lambda: all(other.heard for other in others))  # noqa: B023 (it is awaited here)
        for other in others:
            other.heard.clear()


async def test_everybody_else_hears_it_in_order(tmp_path: Path) -> None:
    with listening(tmp_path, "a", "b", "c") as (a, b, c):
        for n in range(10):
            a.bus.publish("t", {"n": n})
        a.bus.publish("t", {"n": 10}, urgent=True)
        await until(lambda: len(b.heard) == len(c.heard) == 11, BATCH_SECONDS / 2)  # nobody waits with an urgent one
        assert b.numbers() == c.numbers() == list(range(11))
        assert a.heard == []


async def test_what_is_not_urgent_is_told_within_the_promised_time(tmp_path: Path) -> None:
    with listening(tmp_path, "a", "b") as (a, b):
        start = asyncio.get_running_loop().time()
        a.bus.publish("t", {"n": 1})
        await until(lambda: bool(b.heard))
        assert asyncio.get_running_loop().time() - start < 1
        b.bus.publish("t", {"n": 2})  # and back
        await until(lambda: bool(a.heard))


async def test_who_joins_is_told_what_the_others_know(tmp_path: Path) -> None:
    with listening(tmp_path, "a", "b") as (a, b):
        await acquainted(a, b)
        a.knows, b.knows = [{"n": n} for n in range(1000)], [{"n": -1}]
        with listening(tmp_path, "late") as (late,):
            await until(lambda: len(late.heard) == 1001)
            assert [n for n in late.numbers() if n >= 0] == list(range(1000))
            a.bus.publish("t", {"n": 7}, urgent=True)  # and is one of them from then on
            await until(lambda: late.numbers()[-1] == 7)
            late.bus.publish("t", {"n": 8}, urgent=True)
            await until(lambda: a.numbers()[-1:] == b.numbers()[-1:] == [8])


async def test_a_successor_takes_the_name_over(tmp_path: Path) -> None:
    with listening(tmp_path, "a", "b") as (a, b):
        await acquainted(a, b)
        a.knows = [{"n": 0}]
        with listening(tmp_path, "b") as (successor,):
            await until(lambda: successor.numbers() == [0])
            a.bus.publish("t", {"n": 2}, urgent=True)
            await until(lambda: successor.numbers() == [0, 2])
            b.bus.close()  # the old one, late
            a.bus.publish("t", {"n": 3}, urgent=True)
            await until(lambda: successor.numbers() == [0, 2, 3])
        assert b.heard == []
    assert os.listdir(tmp_path) == []


async def test_a_successor_of_a_killed_one_takes_its_place_at_once(tmp_path: Path) -> None:
    dead = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    dead.bind(str(tmp_path / "b.bus"))
    with listening(tmp_path, "a") as (a,):
        a.bus.publish("t", {"n": 0}, urgent=True)
        await asyncio.to_thread(dead.recv, DATAGRAM_BYTES)  # a has a connection to it
        dead.close()
        a.knows = [{"n": 1}]
        with listening(tmp_path, "b") as (b,):
            await until(lambda: b.numbers() == [1])
            a.bus.publish("t", {"n": 2}, urgent=True)
            await until(lambda: b.numbers() == [1, 2])


async def test_a_killed_peer_s_socket_is_no_obstacle(tmp_path: Path) -> None:
    dead = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    dead.bind(str(tmp_path / "dead.bus"))
    dead.close()
    with listening(tmp_path, "a", "b") as (a, b):
        a.bus.publish("t", {"n": 1}, urgent=True)
        await until(lambda: b.numbers() == [1])


async def test_garbage_and_other_versions_are_passed_over(tmp_path: Path) -> None:
    def unwilling(payload: Payload) -> None:
        raise KeyError(payload["missing"])

    with (
        listening(tmp_path, "a", "b") as (a, b),
        listening(tmp_path, "other", version="2") as (other,),
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as stranger,
    ):
        b.bus.subscribe("unwilling", unwilling)
        stranger.connect(str(tmp_path / "b.bus"))
        for news in (
            b"",
            b"\xff\x00{",
            b"[1,2]",
            b'"text"',
            b"{}",
            b'{"version":"1","from":"x.bus","news":[["t"]]}',
            b'{"version":"1","from":"x.bus","news":7}',
            b'{"version":"1","from":"../../etc/x.bus","news":[["hello",{}]]}',
            b'{"version":"1","from":"\\u0000","news":[["hello",{}]]}',
            b'{"version":"1","from":"x.bus","news":[["unwilling",null],["nobody listens",{}]]}',
            b"x" * DATAGRAM_BYTES,
        ):
            stranger.send(news)
            await asyncio.sleep(0)
        other.bus.publish("t", {"n": -1}, urgent=True)
        a.bus.publish("unwilling", {}, urgent=True)
        a.bus.publish("t", {"n": 1}, urgent=True)
        await until(lambda: bool(b.heard))
        assert b.numbers() == [1]
        assert other.heard == []


async def test_any_amount_is_split_and_what_no_datagram_holds_is_left_out(tmp_path: Path) -> None:
    filler = "x" * 500
    with listening(tmp_path, "a", "b") as (a, b):
        for n in range(1000):  # about 30 datagrams; Linux queues 10
            a.bus.publish("t", {"n": n, "filler": filler})
        a.bus.publish("t", {"n": -1, "filler": "x" * DATAGRAM_BYTES})
        a.bus.publish("t", {"n": 1000}, urgent=True)
        await until(lambda: bool(b.heard) and b.numbers()[-1] == 1000)
        assert b.numbers() == list(range(1001))


async def test_who_does_not_read_harms_nobody_else(tmp_path: Path) -> None:
    silent = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)  # as a stopped process: bound, and never read
    silent.bind(str(tmp_path / "silent.bus"))
    with silent, listening(tmp_path, "a", "b") as (a, b):
        filler = "x" * (DATAGRAM_BYTES - 200)
        for n in range(2 * BACKLOG_DATAGRAMS):
            a.bus.publish("t", {"n": n, "filler": filler}, urgent=True)
            expected = n + 1
            await until(lambda: len(b.heard) == expected)  # noqa: B023 (it is awaited here)
        # When it reads again, it gets the newest.
        silent.setblocking(False)
        last = -1

        def read() -> bool:
            nonlocal last
            try:
                news = orjson.loads(silent.recv(2 * DATAGRAM_BYTES))["news"]
            except BlockingIOError:
                return False
            last = news[-1][1].get("n", last)
            return bool(last == 2 * BACKLOG_DATAGRAMS - 1)

        await until(read)


async def test_before_it_opens_and_after_it_closes_nothing_happens(tmp_path: Path) -> None:
    lonely = Listener(tmp_path, "lonely")
    lonely.bus.publish("t", {"n": 1}, urgent=True)
    lonely.bus.close()
    lonely.bus.open()
    lonely.bus.close()
    lonely.bus.close()
    lonely.bus.publish("t", {"n": 1}, urgent=True)
    assert os.listdir(tmp_path) == []


# -- health on it


class Worker:
    """A worker's health, and a clock that only these tests move."""

    def __init__(self, directory: Path, name: str, clock: list[float]) -> None:
        self.health = Health()
        self.bus = Bus(directory / f"{name}.bus")
        self.shared = SharedHealth(self.health, self.bus, lambda: clock[0])
        self.bus.open()

    def observe(self, *codes: str, model: str = "m") -> None:
        """One attempt each; "" is a success."""
        for code in codes:
            self.shared.observed(Observation("p", model, not code, code, first_byte=None if code else 0.5))


@pytest.fixture
async def workers(tmp_path: Path) -> Any:
    clock = [1000.0]
    found = [Worker(tmp_path, name, clock) for name in ("a", "b")]
    yield (*found, clock)
    for worker in found:
        worker.bus.close()


def same(ours: Standing, theirs: Standing) -> bool:
    """But for the last digit of averages, which depends on how they were summed up."""
    rounded = [
        replace(one, success_rate=round(one.success_rate or 0.0, 9), first_byte=round(one.first_byte or 0.0, 9))
        for one in (ours, theirs)
    ]
    return rounded[0] == rounded[1]


async def test_what_one_worker_has_learned_the_other_knows(workers: tuple[Worker, Worker, list[float]]) -> None:
    a, b, clock = workers
    a.observe("provider_503", "provider_503", "provider_503")
    await until(lambda: not b.health.healthy("p", "m", clock[0]), 1)
    a.observe("provider_429", model="n")
    await until(lambda: not b.health.healthy("p", "n", clock[0]), 1)
    assert b.health.wait("p", "n", clock[0]) == a.health.wait("p", "n", clock[0])
    b.observe("")  # somebody asked for it by its name
    await until(lambda: a.health.healthy("p", "m", clock[0]), 1)
    a.observe("", "", "")
    await until(lambda: b.health.standing("p", "m", clock[0]).requests == 7, 1)
    assert same(b.health.standing("p", "m", clock[0]), a.health.standing("p", "m", clock[0]))


async def test_failures_with_successes_between_them_are_not_in_a_row(
    workers: tuple[Worker, Worker, list[float]],
) -> None:
    a, b, clock = workers
    for failures in range(2, 22, 2):
        a.observe("provider_503", "provider_503", "")
        await until(lambda: b.health.standing("p", "m", clock[0]).failures == failures, 1)  # noqa: B023
        assert b.health.healthy("p", "m", clock[0])


async def test_a_trial_is_one_for_all_workers(workers: tuple[Worker, Worker, list[float]]) -> None:
    a, b, clock = workers
    a.observe("connect_failed", "connect_failed", "connect_failed")
    await until(lambda: not b.health.healthy("p", "m", clock[0]), 1)
    clock[0] += 30
    assert b.health.healthy("p", "m", clock[0])
    a.health.begin("p", "m", clock[0])
    await until(lambda: not b.health.healthy("p", "another", clock[0]), 1)
    b.observe("")  # the log of a's request, which Envoy happened to send to b
    await until(lambda: a.health.healthy("p", "another", clock[0]), 1)


async def test_a_restarted_worker_does_not_start_blind(
    workers: tuple[Worker, Worker, list[float]], tmp_path: Path
) -> None:
    a, b, clock = workers
    a.observe("provider_503", "provider_503", "provider_503")
    for n in range(100):
        a.observe("", model=f"model-{n}")
    a.observe("connect_failed", "connect_failed", "connect_failed", model="model-1")
    await until(lambda: b.health.provider_standing("p", clock[0]).status == "down", 1)
    clock[0] += 7
    late = Worker(tmp_path, "late", clock)
    try:
        await until(lambda: late.health.standing("p", "model-99", clock[0]).requests == 1, 1)
        await until(lambda: late.health.provider_standing("p", clock[0]).status == "down", 1)
        for model in ("m", "model-1", "model-50"):
            assert same(late.health.standing("p", model, clock[0]), a.health.standing("p", model, clock[0]))
        assert late.health.wait("p", "m", clock[0]) == 23
    finally:
        late.bus.close()
