"""The API process: `python -m aion_extproc.api.server --socket PATH --state PATH`.

Where the state names no file for the ledger, the URL of its database is on standard input.
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

from aion_extproc import logs
from aion_extproc.api.app import Deps, create_app
from aion_extproc.api.callers import Callers
from aion_extproc.api.checks import carry
from aion_extproc.api.serving import serve
from aion_extproc.api.state import StateError, read_state
from aion_extproc.extproc.bus import Bus
from aion_extproc.extproc.shared_health import SharedHealth
from aion_extproc.gateway.envoy_stats import checks, in_flight
from aion_extproc.gateway.spec import ENVOY_ADMIN_SOCKET
from aion_extproc.routing.health import Health
from aion_extproc.stores.database import LedgerError
from aion_extproc.stores.keys_changes import NEWS
from aion_extproc.stores.keys_follow import KeyDatabase
from aion_extproc.stores.ledger import Ledger
from aion_extproc.stores.secrets import Vault

log = structlog.get_logger(__name__)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="aion-api", description="aion's HTTP API on a Unix socket")
    parser.add_argument("--socket", type=Path, required=True)
    parser.add_argument("--state", type=Path, required=True, help="JSON written by the supervisor")
    options = parser.parse_args(arguments)
    logs.configure()
    try:
        state = read_state(options.state)
        target = sys.stdin.read() if state.db_path is None else str(state.db_path)
        ledger = Ledger(target)
    except (StateError, LedgerError) as error:
        sys.exit(f"aion-api: {error}")
    health, bus = Health(), Bus(options.socket.with_suffix(".bus"))
    callers = Callers(state.auth)
    keys = KeyDatabase(target, callers, None)
    shared, admin = SharedHealth(health, bus), options.socket.with_name(ENVOY_ADMIN_SOCKET)

    @asynccontextmanager
    async def on_the_bus() -> AsyncIterator[None]:
        bus.open()
        await keys.refresh()  # before the first request
        work = asyncio.create_task(carry(lambda: checks(admin), shared)), asyncio.create_task(keys.follow())
        try:
            yield
        finally:
            for task in work:
                task.cancel()
            bus.close()

    deps = Deps(
        state=state,
        ledger=ledger,
        callers=callers,
        keys=keys,
        vault=Vault.from_env(),
        health=health,
        in_flight=lambda: in_flight(admin),
        keys_changed=lambda: bus.publish(NEWS, {}, urgent=True),
        running=on_the_bus,
    )
    signal.signal(signal.SIGHUP, lambda *_: _read_again(deps, options.state))
    try:
        serve(create_app(deps), socket=options.socket, lifespan=True)
    finally:
        keys.close()
        ledger.close()


def _read_again(deps: Deps, path: Path) -> None:
    try:
        deps.state = read_state(path)
        deps.callers.configure(deps.state.auth)
    except StateError as error:
        log.error("state_kept", reason=str(error))


if __name__ == "__main__":
    main()
