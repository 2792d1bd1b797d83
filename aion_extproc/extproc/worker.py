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
from collections.abc import Callable
from pathlib import Path

import structlog
import uvloop

from aion_extproc.accounting.metrics import Metrics
from aion_extproc.accounting.row import LedgerRow
from aion_extproc.classify.classifier import Classifier
from aion_extproc.extproc.assignment import Assignment, load_assignment
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
    """Serve until SIGTERM, then write what is left and return."""
    settings, catalog = assignment.settings, assignment.catalog
    metrics = Metrics(catalog.names, settings.enabled_providers)
    telemetry = settings.telemetry
    ledger = Ledger(telemetry.db_path)
    writer = LedgerWriter(ledger, telemetry.batch_size, telemetry.flush_interval, metrics=metrics)

    def finished(row: LedgerRow) -> None:
        metrics.observe(row)
        writer.put(row)

    service = Service(make_policy(settings, catalog, Classifier.load()), finished, metrics.classified)
    server = GrpcServer(service.handlers(), MESSAGE_LIMIT)
    await server.start(socket)

    # What is here now stays: the collector need not look at it again (87,000 objects, 42 ms for a full pass). What
    # requests leave is freed by reference counts; few cycles are made, so it may come by less often.
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)

    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stopping.set)
    loop.add_signal_handler(signal.SIGINT, lambda: None)  # Ctrl-C reaches the whole group; the supervisor decides
    heart = asyncio.create_task(_heart(beat))
    pulse = asyncio.create_task(_publish(metrics, server))
    await stopping.wait()
    service.serving = False
    await server.stop(_LAST_STREAMS_SECONDS)
    for task in (heart, pulse):
        task.cancel()
    await writer.drain(_LAST_STREAMS_SECONDS)
    metrics.flush()
    ledger.close()


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
