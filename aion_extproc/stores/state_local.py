"""The shared state of the processes of one machine: a memory-mapped file (LMDB) in the gateway's own directory.

A call is one transaction under the file's lock. A process that is killed in one leaves nothing of it; nothing is ever
synced to the disk, for a new start makes a new file and seeds it from the ledger.

    e                 epoch
    a<account>        spent, reserved           int64 each
    t<bucket>         tat in microseconds       int64
    s<slot>           open                      int64
    r<id>             what is held              JSON [expires, accounts, token buckets, slots]
    x<expires><id>    the same ones by time
    d<id>             settled
    y<time><id>       the same ones by time
"""

from __future__ import annotations

import asyncio
import struct
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import lmdb
import orjson
import structlog

from aion_extproc.accounting.holds import (
    Hold,
    Settled,
    Settlement,
    Verdict,
    bucket_wait_us,
    budget_fits,
    need_us,
)
from aion_extproc.stores.state import DONE_SECONDS, MOST_ORPHANS, Failure, Seed

log = structlog.get_logger(__name__)

_MAP_BYTES = 8 << 30  # of addresses; the file has only what is in it
_EPOCH = b"e"
_PAIR, _ONE, _TIME = struct.Struct("<qq"), struct.Struct("<q"), struct.Struct(">Q")


def _now_us() -> int:
    return time.time_ns() // 1000


class LocalState:
    """The state in the directory at `path`, which is made if it is not there. `timeout`: of a reservation whose end
    nobody hears of, in seconds. `now_us`: UTC microseconds."""

    def __init__(self, path: Path, timeout: float, now_us: Callable[[], int] = _now_us) -> None:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._timeout_us = int(timeout * 1e6)
        self._now_us = now_us
        self._file = lmdb.open(
            str(path),
            map_size=_MAP_BYTES,
            mode=0o600,
            sync=False,
            metasync=False,
            max_readers=512,
            max_dbs=0,
        )
        self._file.reader_check()  # those who were killed while they read

    def reserve(self, hold: Hold, then: Callable[[Verdict | Failure], None]) -> None:
        verdict: Verdict | Failure
        try:
            with self._file.begin(write=True) as table:
                verdict = self._reserve(table, hold)
        except lmdb.Error as error:
            verdict = _failed(error)
        then(verdict)

    def _reserve(self, table: lmdb.Transaction, hold: Hold) -> Verdict | Failure:
        get, put = table.get, table.put
        if get(_EPOCH) is None:
            return "unseeded"
        now = self._now_us()
        self._release_orphans(table, now)
        id = hold.id.encode()
        self._release(table, id, None, now)
        accounts = [_PAIR.unpack(get(b"a" + one.account.encode()) or _NOTHING) for one in hold.budgets]
        tats = [_ONE.unpack(get(b"t" + one.bucket.encode()) or _ZERO)[0] for one in hold.buckets]
        opened = [_ONE.unpack(get(b"s" + one.slot.encode()) or _ZERO)[0] for one in hold.slots]
        used = [spent + reserved for spent, reserved in accounts]
        backlogs = [max(tat - now, 0) for tat in tats]
        granted = (
            all(map(budget_fits, hold.budgets, used))
            and not any(map(bucket_wait_us, hold.buckets, backlogs))
            and all(there < one.limit for one, there in zip(hold.slots, opened, strict=True))
        )
        if granted and get(b"d" + id) is None:  # else it has ended already
            for one, (spent, reserved) in zip(hold.budgets, accounts, strict=True):
                put(b"a" + one.account.encode(), _PAIR.pack(spent, reserved + one.amount_nano))
            for bucket, backlog in zip(hold.buckets, backlogs, strict=True):
                tat = now + backlog + need_us(bucket.amount, bucket.limit)
                put(b"t" + bucket.bucket.encode(), _ONE.pack(tat))
            for slot, there in zip(hold.slots, opened, strict=True):
                put(b"s" + slot.slot.encode(), _ONE.pack(there + 1))
            expires = now + self._timeout_us
            put(b"r" + id, _record(hold, expires))
            put(b"x" + _TIME.pack(expires) + id, b"")
        return Verdict(granted, tuple(used), tuple(backlogs), tuple(opened))

    def settle(
        self, settlements: Sequence[Settlement], then: Callable[[Sequence[Settled] | Failure], None]
    ) -> None:
        settled: Sequence[Settled] | Failure
        try:
            with self._file.begin(write=True) as table:
                if table.get(_EPOCH) is None:
                    settled = "unseeded"
                else:
                    now = self._now_us()
                    self._release_orphans(table, now)
                    _forget_done(table, now - DONE_SECONDS * 1_000_000, 2 * len(settlements))
                    settled = [self._settle(table, one, now) for one in settlements]
        except lmdb.Error as error:
            settled = _failed(error)
        then(settled)

    def _settle(self, table: lmdb.Transaction, settlement: Settlement, now: int) -> Settled:
        id = settlement.id.encode()
        self._release(table, id, settlement.tokens, now)
        if not table.put(b"d" + id, b"", overwrite=False):
            return Settled()
        table.put(b"y" + _TIME.pack(now) + id, b"")
        before, after = [], []
        for account, amount in settlement.spent:
            key = b"a" + account.encode()
            spent, reserved = _PAIR.unpack(table.get(key) or _NOTHING)
            table.put(key, _PAIR.pack(spent + amount, reserved))
            before.append(spent)
            after.append(spent + amount)
        return Settled(tuple(before), tuple(after))

    def _release(self, table: lmdb.Transaction, id: bytes, tokens: int | None, now: int) -> None:
        """Hold no more for that request; where it is known how many tokens it used, they are put right."""
        record = table.pop(b"r" + id)
        if record is None:
            return
        expires, budgets, buckets, slots = orjson.loads(record)
        table.delete(b"x" + _TIME.pack(expires) + id)
        for account, amount in budgets:
            key = b"a" + account.encode()
            spent, reserved = _PAIR.unpack(table.get(key) or _NOTHING)
            table.put(key, _PAIR.pack(spent, reserved - amount))
        for slot in slots:
            key = b"s" + slot.encode()
            table.put(key, _ONE.pack(_ONE.unpack(table.get(key) or _ZERO)[0] - 1))
        if tokens is None:
            return
        for bucket, limit, amount in buckets:
            key = b"t" + bucket.encode()
            difference = need_us(tokens, limit) - need_us(amount, limit)
            tat = _ONE.unpack(table.get(key) or _ZERO)[0]
            table.put(key, _ONE.pack((max(tat, now) if difference > 0 else tat) + difference))

    def _release_orphans(self, table: lmdb.Transaction, now: int) -> None:
        for key in _before(table, b"x", now, MOST_ORPHANS):
            self._release(table, key[9:], None, now)

    async def epoch(self) -> str | Failure:
        with self._file.begin() as table:
            epoch = table.get(_EPOCH)
        return "unseeded" if epoch is None else epoch.decode()

    async def seed(self, make: Callable[[], Seed]) -> None:
        seed = await asyncio.to_thread(make)
        with self._file.begin(write=True) as table:
            if table.get(_EPOCH) is not None:  # another process was faster
                return
            now = self._now_us()
            for account, spent in seed.spent.items():
                table.put(b"a" + account.encode(), _PAIR.pack(spent, 0))
            for id in seed.done:
                table.put(b"d" + id.encode(), b"")
                table.put(b"y" + _TIME.pack(now) + id.encode(), b"")
            table.put(_EPOCH, uuid.uuid4().hex.encode())

    def close(self) -> None:
        self._file.close()


def _failed(error: lmdb.Error) -> Failure:
    log.error("state_failed", error=str(error))  # full, most likely
    return "unreachable"


_NOTHING, _ZERO = _PAIR.pack(0, 0), _ONE.pack(0)


def _record(hold: Hold, expires: int) -> bytes:
    return orjson.dumps(
        [
            expires,
            [[one.account, one.amount_nano] for one in hold.budgets],
            [[one.bucket, one.limit, one.amount] for one in hold.buckets if one.kind == "tokens"],
            [one.slot for one in hold.slots],
        ]
    )


def _before(table: lmdb.Transaction, kind: bytes, now: int, most: int) -> list[bytes]:
    """Keys of an index by time that are due, oldest first."""
    due: list[bytes] = []
    cursor: Any = table.cursor()
    if cursor.set_range(kind):
        for key in cursor.iternext(keys=True, values=False):
            if key[:1] != kind or _TIME.unpack(key[1:9])[0] > now or len(due) == most:
                break
            due.append(bytes(key))
    cursor.close()
    return due


def _forget_done(table: lmdb.Transaction, before: int, most: int) -> None:
    for key in _before(table, b"y", before, most):
        table.delete(key)
        table.delete(b"d" + key[9:])
