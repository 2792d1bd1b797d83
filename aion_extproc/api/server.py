"""The API process: `python -m aion_extproc.api.server --socket PATH --state PATH`.

The workers and Envoy's administration have their sockets in the same directory as its own.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import structlog

from aion_extproc.api.app import Deps, create_app
from aion_extproc.api.checks import carry
from aion_extproc.api.serving import serve
from aion_extproc.api.state import StateError, read_state
from aion_extproc.extproc.bus import Bus
from aion_extproc.extproc.shared_health import SharedHealth
from aion_extproc.gateway.envoy_stats import checks, in_flight
from aion_extproc.gateway.spec import ENVOY_ADMIN_SOCKET
from aion_extproc.routing.health import Health
from aion_extproc.stores.ledger import Ledger, LedgerError

log = structlog.get_logger(__name__)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="aion-api", description="aion's HTTP API on a Unix socket")
    parser.add_argument("--socket", type=Path, required=True)
    parser.add_argument("--state", type=Path, required=True, help="JSON written by the supervisor")
    options = parser.parse_args(arguments)
    try:
        state = read_state(options.state)
        ledger = Ledger(state.db_path)
    except (StateError, LedgerError) as error:
        sys.exit(f"aion-api: {error}")
    health, bus = Health(), Bus(options.socket.with_suffix(".bus"))
    shared, admin = SharedHealth(health, bus), options.socket.with_name(ENVOY_ADMIN_SOCKET)

    @asynccontextmanager
    async def on_the_bus() -> AsyncIterator[None]:
        bus.open()
        carrying = asyncio.create_task(carry(lambda: checks(admin), shared))
        try:
            yield
        finally:
            carrying.cancel()
            bus.close()

    deps = Deps(state, ledger, health, lambda: in_flight(admin), on_the_bus)
    signal.signal(signal.SIGHUP, lambda *_: _read_again(deps, options.state))
    try:
        serve(create_app(deps), socket=options.socket, lifespan=True)
    finally:
        ledger.close()


def _read_again(deps: Deps, path: Path) -> None:
    try:
        deps.state = read_state(path)
    except StateError as error:
        log.error("state_kept", reason=str(error))


if __name__ == "__main__":
    main()
