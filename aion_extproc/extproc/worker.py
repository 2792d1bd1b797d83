"""A worker process: `python -m aion_extproc.extproc.worker`, started by the supervisor.

Its settings and catalogue come on standard input as JSON, so that no key is ever in a file or on a command line.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from itertools import chain
from pathlib import Path
from typing import Any

import structlog
import uvloop

from aion_extproc.accounting.metrics import Metrics, name_process
from aion_extproc.accounting.row import AttemptRow, LedgerRow
from aion_extproc.classify.classifier import Classifier
from aion_extproc.extproc.assignment import Assignment, load_assignment
from aion_extproc.extproc.bus import Bus
from aion_extproc.extproc.grpc_server import GrpcServer
from aion_extproc.extproc.policy import make_policy
from aion_extproc.extproc.service import MESSAGE_LIMIT, Service
from aion_extproc.leaving import leave
from aion_extproc.stores.ledger import Ledger
from aion_extproc.stores.writer import LedgerWriter

log = structlog.get_logger(__name__)

HEARTBEAT_SECONDS = 0.5
_METRICS_SECONDS = 1.0
_LAST_STREAMS_SECONDS = 1.0


async def run(assignment: Assignment, socket: Path, beat: Callable[[], None]) -> None:
    """Serve, then write what is left and return: after SIGUSR1 when the last open call has ended, after SIGTERM at
    once."""
    every = (assignment.current, *assignment.earlier)
    name_process(socket.stem)
    metrics = Metrics(
        chain.from_iterable(one.catalog.names for one in every),
        chain.from_iterable(one.settings.enabled_providers for one in every),
    )
    telemetry = assignment.current.settings.telemetry
    ledger = Ledger(telemetry.db_path)
    writer = LedgerWriter(ledger, telemetry.batch_size, telemetry.flush_interval, metrics=metrics)

    def finished(row: LedgerRow | AttemptRow) -> None:
        if isinstance(row, LedgerRow):
            metrics.observe(row)
        else:
            metrics.failed_attempt(row)
        writer.put(row)

    bus = Bus(socket.with_suffix(".bus"))
    classifier = Classifier.load()
    policy, *earlier = (
        make_policy(one.settings, one.catalog, classifier, one.number, one.revisions) for one in every
    )
    service = Service(policy, finished, metrics.classified, bus, {one.generation: one for one in earlier})
    bus.open()  # first, so that what the others know is here before the first request
    server = GrpcServer(service.handlers(), MESSAGE_LIMIT)
    await server.start(socket)

    # What is here now stays: the collector need not look at it again (87,000 objects, 42 ms for a full pass). What
    # requests leave is freed by reference counts; few cycles are made, so it may come by less often.
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)

    leaving, stopping = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGUSR1, leaving.set)
    loop.add_signal_handler(signal.SIGTERM, stopping.set)
    loop.add_signal_handler(signal.SIGINT, lambda: None)  # Ctrl-C reaches the whole group; the supervisor decides
    heart = asyncio.create_task(_heart(beat))
    pulse = asyncio.create_task(_publish(metrics, server))
    await _first(leaving.wait(), stopping.wait())
    service.leave()
    await _first(server.leave(), stopping.wait())
    await server.stop(_LAST_STREAMS_SECONDS)
    bus.close()
    for task in (heart, pulse):
        task.cancel()
    await writer.drain(_LAST_STREAMS_SECONDS)
    metrics.flush()
    ledger.close()


async def _first(*waits: Coroutine[Any, Any, object]) -> None:
    """Until one of them is over."""
    tasks = [asyncio.create_task(wait) for wait in waits]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()


async def _heart(beat: Callable[[], None]) -> None:
    """Beats only while the event loop turns: a worker that hangs in Python falls silent."""
    while True:
        beat()
        await asyncio.sleep(HEARTBEAT_SECONDS)


async def _publish(metrics: Metrics, server: GrpcServer) -> None:
    while True:
        await asyncio.sleep(_METRICS_SECONDS)
        metrics.streams.set(server.streams)
        metrics.flush()


def pipe_beat(descriptor: int) -> Callable[[], None]:
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


def main() -> None:
    parser = argparse.ArgumentParser(prog="aion-worker")
    parser.add_argument("--socket", type=Path, required=True)
    parser.add_argument("--heartbeat", type=int, required=True, help="file descriptor")
    options = parser.parse_args()
    assignment = load_assignment(sys.stdin.buffer.read())
    options.socket.unlink(missing_ok=True)  # a killed predecessor's
    uvloop.run(run(assignment, options.socket, pipe_beat(options.heartbeat)))
    leave(0)


if __name__ == "__main__":
    main()
