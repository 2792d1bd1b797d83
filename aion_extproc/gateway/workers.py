"""The worker processes: as many as are wanted, replaced one by one without losing a request.

    new one started ─▶ on Envoy's list ─▶ healthy there ─▶ old one off the list ─▶ its open calls end ─▶ gone

The list is a file that Envoy follows. A worker that dies is started again in its place (Child).
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import sys
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import Any, Literal

import structlog

from aion_extproc.accounting.metrics import Metrics, forget_process
from aion_extproc.extproc.assignment import Assignment, Generation, dump_assignment
from aion_extproc.gateway.bootstrap import render_workers
from aion_extproc.gateway.child import LAST_SECONDS, Child
from aion_extproc.gateway.envoy_admin import AdminError, EnvoyAdmin
from aion_extproc.gateway.files import write_json
from aion_extproc.gateway.processor import EXTPROC_CLUSTER, LEDGER_CLUSTER

log = structlog.get_logger(__name__)

START_SECONDS = 30.0
_MOST_DEATHS = 3  # of one that does not start
_DELISTED_SECONDS = 5.0  # for Envoy to take one off its list; until then it is served
_SPREAD_SECONDS = 0.1  # until Envoy's threads know what its main thread knows
_LOOK_SECONDS = 0.05
_CARE_SECONDS = 1.0
_PAUSE_SECONDS = 30.0  # between two replacements for memory, and after one that failed


@dataclass(frozen=True, slots=True)
class Kind:
    """Which processes: their name before its number, their module, and the cluster that Envoy knows them as."""

    name: str
    module: str
    cluster: str


WORKER = Kind("worker", "aion_extproc.extproc.worker", EXTPROC_CLUSTER)
LEDGER = Kind("ledger", "aion_extproc.extproc.ledger_process", LEDGER_CLUSTER)


class WorkerError(Exception):
    """A worker does not become ready; the log has its own words."""


@dataclass(frozen=True, slots=True)
class _Target:
    """What is wanted: so many workers of this epoch. A new epoch means that all are replaced."""

    epoch: int
    stdin: bytes = field(repr=False)
    count: int


@dataclass(slots=True, eq=False)
class _Worker:
    child: Child
    socket: Path
    epoch: int


class Workers:
    """Those of one kind, with their sockets beside the `listed` file, where Envoy reads which of them there are.

    `drain_seconds`: how long one that leaves may wait for its open calls.
    """

    def __init__(
        self, kind: Kind, listed: Path, admin: EnvoyAdmin, metrics: Metrics, drain_seconds: float
    ) -> None:
        self.drain_seconds = drain_seconds
        self.serving: list[_Worker] = []
        self.leaving: set[_Worker] = set()
        self._kind = kind
        self._listed = listed
        self._admin = admin
        self._metrics = metrics
        self._epochs = count(1)
        self._target = _Target(0, b"", 0)
        self._farewells: set[asyncio.Task[None]] = set()
        self._lock = asyncio.Lock()

    @property
    def children(self) -> list[Child]:
        return [worker.child for worker in (*self.serving, *self.leaving)]

    async def start(self, assignment: Assignment, count: int) -> None:
        """Before there is an Envoy. Raises WorkerError."""
        self._target = _Target(next(self._epochs), dump_assignment(assignment), count)
        self.serving = [self._new(number) for number in range(count)]
        for worker in self.serving:
            await worker.child.start()
        await asyncio.gather(*(_listening(worker) for worker in self.serving))
        self._publish()

    async def turn(self, generation: Generation, former: tuple[Generation, ...], count: int) -> None:
        """Decide by this generation from now on; `former`: the present one, and those before it.

        First each worker is replaced by one that knows of it, then all turn to it: what one has decided any other may
        have to go on with. WorkerError: none has turned.
        """
        coming = Assignment(former[0], former[1:], generation)
        async with self._lock:
            await self._replace(dump_assignment(coming), count, "reload")
            self._target = replace(self._target, stdin=dump_assignment(Assignment(generation, former)))
            for worker in self.serving:
                worker.child.stdin = self._target.stdin  # should it die
                worker.child.tell(signal.SIGUSR2)

    async def restart(self) -> None:
        """A new process for each worker, one after another. Raises WorkerError."""
        async with self._lock:
            await self._replace(self._target.stdin, self._target.count, "restart")

    async def care(self, memory_limit: Callable[[], int]) -> None:
        """For ever: replace those that hold more than so many bytes, and bring about what could not be before."""
        not_before = 0.0
        while True:
            await asyncio.sleep(_CARE_SECONDS)
            if time.monotonic() < not_before or self._lock.locked():
                continue
            limit = memory_limit()
            for worker in self.serving:
                held = worker.child.resident_bytes
                if held > limit and worker.epoch == self._target.epoch:
                    log.warning("leaking", process=worker.child.name, resident_bytes=held, action="replaced")
                    self._metrics.worker_replacements.labels("memory").inc()
                    worker.epoch = 0
                    not_before = time.monotonic() + _PAUSE_SECONDS
                    break
            try:
                async with self._lock:
                    await self._reconcile()
            except WorkerError as error:
                log.error("worker_not_replaced", reason=str(error))
                not_before = time.monotonic() + _PAUSE_SECONDS

    async def stop(self) -> None:
        for task in self._farewells:
            task.cancel()
        await asyncio.gather(*(child.stop(LAST_SECONDS) for child in self.children))

    async def _replace(self, stdin: bytes, count: int, reason: Literal["reload", "restart"]) -> None:
        former, outdated = self._target, len(self.serving)
        self._target = _Target(next(self._epochs), stdin, count)
        try:
            await self._reconcile()
        except WorkerError:
            self._target = former  # those that are there already are replaced again, by `care`
            raise
        self._metrics.worker_replacements.labels(reason).inc(outdated)

    async def _reconcile(self) -> None:
        while True:
            outdated = [worker for worker in self.serving if worker.epoch != self._target.epoch]
            if len(self.serving) > self._target.count:
                await self._take_out(outdated[0] if outdated else self.serving[-1])
            elif outdated or len(self.serving) < self._target.count:
                await self._bring_in()
            else:
                return

    async def _bring_in(self) -> None:
        taken = {worker.child.name for worker in (*self.serving, *self.leaving)}
        worker = self._new(next(number for number in count() if self._name(number) not in taken))
        await worker.child.start()
        try:
            await _listening(worker)
            self.serving.append(worker)
            self._publish()
            await self._agreed(worker, True, START_SECONDS)
        except (WorkerError, asyncio.CancelledError):
            if worker in self.serving:
                self.serving.remove(worker)
                self._publish()
            await self._gone(worker, worker.child.stop(LAST_SECONDS))
            raise

    async def _take_out(self, worker: _Worker) -> None:
        self.serving.remove(worker)
        self.leaving.add(worker)
        self._publish()
        with contextlib.suppress(WorkerError):
            await self._agreed(worker, False, _DELISTED_SECONDS)
        await asyncio.sleep(_SPREAD_SECONDS)
        farewell = asyncio.create_task(self._gone(worker, worker.child.see_off(self.drain_seconds)))
        self._farewells.add(farewell)
        farewell.add_done_callback(self._farewells.discard)

    async def _gone(self, worker: _Worker, end: Coroutine[Any, Any, None]) -> None:
        await end
        self.leaving.discard(worker)
        forget_process(worker.child.name)
        worker.socket.unlink(missing_ok=True)

    def _new(self, number: int) -> _Worker:
        name, target = self._name(number), self._target
        path = self._listed.with_name(f"{name}.sock")
        command = [sys.executable, "-m", self._kind.module, "--socket", str(path)]
        child = Child(name, command, stdin=target.stdin, heartbeat=True, died=self._died)
        return _Worker(child, path, target.epoch)

    def _name(self, number: int) -> str:
        return f"{self._kind.name}-{number}"

    def _died(self, name: str) -> None:
        forget_process(name)
        self._metrics.worker_restarts.inc()

    def _publish(self) -> None:
        write_json(self._listed, render_workers(self._kind.cluster, (worker.socket for worker in self.serving)))

    async def _agreed(self, worker: _Worker, wanted: bool, seconds: float) -> None:
        """Until Envoy sends requests there, or does not."""

        async def agrees() -> bool:
            with contextlib.suppress(AdminError):  # one that has just died comes back
                hosts = await self._admin.hosts(self._kind.cluster)
                return hosts.get(str(worker.socket), False) if wanted else str(worker.socket) not in hosts
            return False

        await _until(agrees, worker, seconds, "does not answer Envoy")


async def _listening(worker: _Worker) -> None:
    async def listens() -> bool:
        with socket.socket(socket.AF_UNIX) as probe:
            probe.setblocking(False)
            return probe.connect_ex(str(worker.socket)) == 0

    await _until(listens, worker, START_SECONDS, "did not become ready")


async def _until(
    look: Callable[[], Coroutine[Any, Any, bool]], worker: _Worker, seconds: float, problem: str
) -> None:
    deadline = time.monotonic() + seconds
    while not await look():
        if time.monotonic() > deadline:
            raise WorkerError(f"{worker.child.name} {problem} within {seconds:g} s; the log above says more")
        if worker.child.restarts >= _MOST_DEATHS and worker.child.age < START_SECONDS:
            raise WorkerError(f"{worker.child.name} keeps dying at its start; the log above says why")
        await asyncio.sleep(_LOOK_SECONDS)
