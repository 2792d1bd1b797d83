"""What the worker processes and the ledger's process have in common: how they start, beat, and end.

Settings and catalogue come on standard input as JSON, so that no key is ever in a file or on a command line.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import signal
import sys
import time
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any

import uvloop

from aion_extproc import logs
from aion_extproc.accounting.facts import Facts
from aion_extproc.accounting.metrics import Metrics, name_process
from aion_extproc.accounting.row import LedgerRow
from aion_extproc.classify.classifier import Classifier
from aion_extproc.extproc.assignment import Assignment, load_assignment
from aion_extproc.extproc.budget_events import SPENT, BudgetEvents
from aion_extproc.extproc.bus import Bus
from aion_extproc.extproc.callers import Keyring
from aion_extproc.extproc.failed_attempts import FailedAttempts
from aion_extproc.extproc.grpc_call import Handler
from aion_extproc.extproc.grpc_server import GrpcServer
from aion_extproc.extproc.lessons import learn, observation
from aion_extproc.extproc.log_sink import LogSink, Row
from aion_extproc.extproc.policy import Policies, make_policy
from aion_extproc.extproc.service import MESSAGE_LIMIT
from aion_extproc.extproc.settling import Settler
from aion_extproc.extproc.shared_health import SharedHealth
from aion_extproc.extproc.shared_sessions import BATCH_SECONDS, share_sessions
from aion_extproc.leaving import leave
from aion_extproc.stores.keys_changes import NEWS
from aion_extproc.stores.keys_follow import KeyDatabase
from aion_extproc.stores.ledger import Ledger
from aion_extproc.stores.secrets import Vault
from aion_extproc.stores.shared_state import open_state
from aion_extproc.stores.spool import Spool
from aion_extproc.stores.state_local import LocalState
from aion_extproc.stores.state_redis import RedisState
from aion_extproc.stores.writer import LedgerWriter

HEARTBEAT_SECONDS = 0.5
LAST_SECONDS = 1.0
START_SECONDS = 3.0  # for the databases to answer; without them it starts all the same
_METRICS_SECONDS = 1.0


class Parts:
    """What such a process is made of; with a bus that others can hear as soon as the loop runs."""

    def __init__(self, assignment: Assignment, socket: Path, batch_seconds: float) -> None:
        every = assignment.all
        name_process(socket.stem)
        self.socket = socket
        self.metrics = Metrics(
            chain.from_iterable(one.catalog.names for one in every),
            chain.from_iterable(one.settings.enabled_providers for one in every),
        )
        self.settings = settings = assignment.newest.settings
        telemetry = settings.telemetry
        self.ledger = Ledger(telemetry.target, wait=False)  # it may be away, or take its time for a new schema
        spool = Spool(Path(telemetry.spool), self.ledger.name, telemetry.spool_bytes)
        self.writer = LedgerWriter(
            self.ledger, spool, telemetry.batch_size, telemetry.flush_interval, metrics=self.metrics
        )
        classifier = Classifier.load()
        self.keyring = Keyring()
        known = {
            one.number: make_policy(one.settings, one.catalog, classifier, one.number, one.revisions, self.keyring)
            for one in every
        }
        policy = known[assignment.newest.number]
        known = {n: replace(one, health=policy.health, sessions=policy.sessions) for n, one in known.items()}
        self.policies = Policies(known[assignment.current.number], known)
        self.bus = Bus(socket.with_suffix(".bus"))
        self.health = SharedHealth(policy.health, self.bus)
        share_sessions(policy.sessions, self.bus, batch_seconds)
        self.keys: KeyDatabase | None = None
        if any(one.settings.auth.enabled for one in every):
            self.keys = KeyDatabase(telemetry.target, self.keyring, Vault.from_env())
            self.bus.subscribe(NEWS, self._keys_changed)
        self.state: LocalState | RedisState | None = None
        self.settler: Settler | None = None
        if any(not one.callers.open or one.model_limits for one in known.values()):
            self.state = open_state(settings.state, socket.with_name("state"))
            self.settler = Settler(self.state, self.ledger, self.metrics, self._spent, lambda: spool.waiting)
        self.budget_events: BudgetEvents | None = None  # told of what is spent and refused
        self._tasks: set[asyncio.Task[None]] = set()
        self.failed = FailedAttempts(self.health.observed)
        self.sink = LogSink(self.policies, self._ended, self.failed)

    def _ended(self, row: Row, facts: Facts, retry_after: float | None) -> None:
        if isinstance(row, LedgerRow):
            seen = observation(row, facts, retry_after)
            if seen is not None:
                self.health.observed(seen)
            learn(self.policies.current, row, facts, time.monotonic())
            self.metrics.observe(row)
            if facts.denied and self.budget_events is not None:
                self.budget_events.refused(facts.denied)
        else:
            self.metrics.failed_attempt(row)
        self.put(row)

    def put(self, row: Row) -> None:
        """Write it, and charge it to its accounts."""
        self.writer.put(row)
        if self.settler is not None and isinstance(row, LedgerRow):
            self.settler.ended(row)

    def _spent(self, account: str, before: int, after: int) -> None:
        if self.budget_events is not None:
            self.budget_events.spent(account, before, after)
        else:  # a worker's replay; the ledger's process knows whom to tell
            self.bus.publish(SPENT, {"account": account, "before": before, "after": after})

    def _keys_changed(self, _news: Mapping[str, Any]) -> None:
        assert self.keys is not None
        task = asyncio.create_task(self.keys.refresh())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def begin(self) -> list[asyncio.Task[None]]:
        """Read the keys and reach the shared state, as far as they are there; and what goes on with that."""
        tasks: list[asyncio.Task[None]] = []
        if self.keys is not None:
            with suppress(TimeoutError):
                await asyncio.wait_for(self.keys.refresh(), START_SECONDS)
            tasks.append(asyncio.create_task(self.keys.follow()))
        if isinstance(self.state, RedisState):
            self.state.open()
            await self.state.connected(START_SECONDS)
        if self.settler is not None:
            with suppress(TimeoutError):
                await asyncio.wait_for(self.settler.look(), START_SECONDS)
        return tasks

    def turn(self) -> None:
        """Decide by the newest generation from now on."""
        self.policies.current = self.policies.newest


@dataclass(slots=True)
class Serving:
    """A process that serves until it is told to leave: by SIGUSR1 when its last open call has ended, by SIGTERM at
    once. SIGUSR2 tells it to turn to the next generation."""

    parts: Parts
    handlers: dict[str, Handler]
    leaving: Callable[[], None]  # told when it begins to leave
    beat: Callable[[], None]
    parting: Callable[[], Coroutine[Any, Any, None]] | None = None  # what is left to do when no call is open
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    async def run(self) -> None:
        parts = self.parts
        parts.bus.open()  # first, so that what the others know is here before the first request
        self.tasks += await parts.begin()
        server = GrpcServer(self.handlers, MESSAGE_LIMIT)
        await server.start(parts.socket)

        # What is here now stays: the collector need not look at it again (87,000 objects, 42 ms for a full pass). What
        # requests leave is freed by reference counts; few cycles are made, so it may come by less often.
        gc.collect()
        gc.freeze()
        gc.set_threshold(10_000, 20, 20)

        told, stopping = asyncio.Event(), asyncio.Event()
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGUSR1, told.set)
        loop.add_signal_handler(signal.SIGTERM, stopping.set)
        loop.add_signal_handler(signal.SIGUSR2, parts.turn)
        loop.add_signal_handler(signal.SIGINT, lambda: None)  # Ctrl-C reaches the whole group; the supervisor decides
        self.tasks += [asyncio.create_task(_heart(self.beat)), asyncio.create_task(_publish(parts.metrics, server))]
        await _first(told.wait(), stopping.wait())
        self.leaving()
        await _first(server.leave(), stopping.wait())
        if self.parting is not None and not stopping.is_set():
            await self.parting()
        await server.stop(LAST_SECONDS)
        parts.bus.close()
        for task in self.tasks:
            task.cancel()
        if parts.settler is not None:
            await parts.settler.drain(LAST_SECONDS)
        await parts.writer.drain(LAST_SECONDS)
        parts.metrics.flush()
        if parts.keys is not None:
            parts.keys.close()
        if parts.state is not None:
            parts.state.close()
        parts.ledger.close()


async def _first(*waits: Coroutine[Any, Any, object]) -> None:
    """Until one of them is over."""
    tasks = [asyncio.create_task(wait) for wait in waits]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()


async def _heart(beat: Callable[[], None]) -> None:
    """Beats only while the event loop turns: a process that hangs in Python falls silent."""
    while True:
        beat()
        await asyncio.sleep(HEARTBEAT_SECONDS)


async def _publish(metrics: Metrics, server: GrpcServer) -> None:
    while True:
        await asyncio.sleep(_METRICS_SECONDS)
        metrics.streams.set(server.streams)
        metrics.flush()


def _pipe_beat(descriptor: int) -> Callable[[], None]:
    """A heartbeat on an inherited pipe. A full pipe is no reason to stop."""
    os.set_blocking(descriptor, False)

    def beat() -> None:
        try:
            os.write(descriptor, b".")
        except BlockingIOError:
            return
        except BrokenPipeError:
            os.kill(os.getpid(), signal.SIGTERM)  # the supervisor is gone, so Envoy is too

    return beat


def main(
    serve: Callable[[Parts, Callable[[], None]], Coroutine[Any, Any, None]], batch_seconds: float = BATCH_SECONDS
) -> None:
    """The process that `serve` makes of its parts and a heartbeat. `batch_seconds`: how long news of conversations wait
    for company."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--socket", type=Path, required=True)
    parser.add_argument("--heartbeat", type=int, required=True, help="file descriptor")
    options = parser.parse_args()
    logs.configure()
    assignment = load_assignment(sys.stdin.buffer.read())
    options.socket.unlink(missing_ok=True)  # a killed predecessor's

    async def run() -> None:
        await serve(Parts(assignment, options.socket, batch_seconds), _pipe_beat(options.heartbeat))

    uvloop.run(run())
    leave(0)
