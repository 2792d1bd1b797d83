"""Keeps what a process knows of keys and tenants up to date with the database."""

from __future__ import annotations

import asyncio
from threading import Lock
from typing import NoReturn, Protocol

import structlog
from sqlalchemy import Engine

from aion_extproc.stores.database import LedgerError, connect, outage
from aion_extproc.stores.keys_changes import Changes, changes
from aion_extproc.stores.keys_tables import Clock, now_ms
from aion_extproc.stores.secrets import Vault

LOOK_SECONDS = 1.0

log = structlog.get_logger(__name__)


class Known(Protocol):
    version: int  # of the database; 0: it has not been read yet

    def apply(self, news: Changes) -> None:
        """Each version once, in their order."""


class KeyDatabase:
    """The database of the keys, opened when it is needed, and `known` kept up to date with it. Without a `vault` the
    keys of providers are not read."""

    def __init__(self, target: str, known: Known, vault: Vault | None, clock: Clock = now_ms) -> None:
        self._target = target
        self._known = known
        self._vault = vault
        self._clock = clock
        self._opened: Engine | None = None
        self._opening = Lock()
        self._in_turn = asyncio.Lock()  # an answer that is older than another must not be applied after it
        self._fails = False

    @property
    def engine(self) -> Engine:
        """LedgerError: it cannot be opened now."""
        with self._opening:
            if self._opened is None:
                self._opened = connect(self._target)
            return self._opened

    async def refresh(self) -> None:
        """Ask what has changed. What is known stays while the database does not answer."""
        async with self._in_turn:
            try:
                news = await asyncio.to_thread(self._news)
            except Exception as error:  # whatever is wrong, the next look comes
                if not self._fails:
                    log.error("keys_not_read", reason=_reason(error))
                self._fails = True
                return
            self._fails = False
            self._known.apply(news)

    def _news(self) -> Changes:
        return changes(self.engine, self._vault, self._known.version, self._clock)

    async def follow(self) -> NoReturn:
        """Until cancelled."""
        while True:
            await self.refresh()
            await asyncio.sleep(LOOK_SECONDS)

    def close(self) -> None:
        if self._opened is not None:
            self._opened.dispose()


def _reason(error: Exception) -> str:
    """Without the statement and what was in it."""
    return str(error) if isinstance(error, LedgerError) else outage(error) or type(error).__name__
