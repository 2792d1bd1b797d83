"""The shared state in Redis or Valkey: each call is one script (state.lua) and one round trip."""

from __future__ import annotations

import asyncio
import hashlib
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib.resources import files
from typing import Any

import hiredis
import structlog

from aion_extproc.accounting.holds import Hold, Settled, Settlement, Verdict
from aion_extproc.stores.redis_link import RedisLink
from aion_extproc.stores.state import DONE_SECONDS, Failure, Seed, expires_seconds

log = structlog.get_logger(__name__)

_SCRIPT = files("aion_extproc.stores").joinpath("state.lua").read_text()
_SHA = hashlib.sha1(_SCRIPT.encode()).hexdigest()  # as Redis names it
_EPOCH = "{aion}:e"
_SEEDING_MS = 15_000  # after which another process takes over from one that died seeding
_SEED_AT_ONCE = 500


class RedisState:
    """The state behind a Redis URL. `call_timeout`: of one reservation, in seconds; `timeout`: of a reservation whose
    end nobody hears of, in seconds. StateError: the URL cannot be read. Works in a running loop, from `open` on."""

    def __init__(self, url: str, call_timeout: float, timeout: float) -> None:
        self._link = RedisLink(url, call_timeout, [("EVAL", _SAME_RUN, "0"), ("SCRIPT", "LOAD", _SCRIPT)])
        self._timeout_ms = str(int(timeout * 1000))

    def open(self) -> None:
        self._link.open()

    async def connected(self, seconds: float) -> bool:
        """Whether Redis is there, waited for."""
        return await self._link.connected(seconds)

    @property
    def name(self) -> str:
        return self._link.name

    def reserve(self, hold: Hold, then: Callable[[Verdict | Failure], None]) -> None:
        budgets, buckets, slots = hold.budgets, hold.buckets, hold.slots
        command = ["reserve", hold.id, self._timeout_ms, str(len(budgets)), str(len(buckets)), str(len(slots))]
        for one in budgets:
            kept = str(expires_seconds(one.account))
            command += (f"{{aion}}:a:{one.account}", kept, str(one.limit_nano), str(one.amount_nano))
        for bucket in buckets:
            tokens = "1" if bucket.kind == "tokens" else "0"
            command += (f"{{aion}}:t:{bucket.bucket}", str(bucket.limit), str(bucket.amount), tokens)
        for slot in slots:
            command += (f"{{aion}}:s:{slot.slot}", str(slot.limit))

        def told(answer: Any) -> None:
            failure = _failure(answer)
            if failure is not None:
                then(failure)
                return
            granted, *found = map(int, answer)
            split = len(budgets) + len(buckets)
            then(
                Verdict(
                    bool(granted),
                    tuple(found[: len(budgets)]),
                    tuple(found[len(budgets) : split]),
                    tuple(found[split:]),
                )
            )

        self._run(command, told)

    def settle(
        self, settlements: Sequence[Settlement], then: Callable[[Sequence[Settled] | Failure], None]
    ) -> None:
        command = ["settle", str(DONE_SECONDS)]
        for one in settlements:
            command += (one.id, "-1" if one.tokens is None else str(one.tokens), str(len(one.spent)))
            for account, amount in one.spent:
                command += (f"{{aion}}:a:{account}", str(expires_seconds(account)), str(amount))

        def told(answer: Any) -> None:
            failure = _failure(answer)
            then(_settled(settlements, answer) if failure is None else failure)

        # Nobody waits for it, and to tell it twice would be work for nothing.
        self._run(command, told, 2.0)

    def _run(self, arguments: Sequence[str], then: Callable[[Any], None], timeout: float | None = None) -> None:
        """The script, which Redis has since we connected, unless somebody has made it forget its scripts."""

        def told(answer: Any) -> None:
            if isinstance(answer, hiredis.ReplyError) and str(answer).startswith("NOSCRIPT"):
                self._link.ask(("EVAL", _SCRIPT, "0", *arguments), then, timeout)
            else:
                then(answer)

        self._link.ask(("EVALSHA", _SHA, "0", *arguments), told, timeout)

    async def epoch(self) -> str | Failure:
        try:
            answer = await self._link.request("GET", _EPOCH)
        except hiredis.ReplyError as error:  # it is busy with a script of somebody else's, for one
            return _failure(error) or "unreachable"
        if answer is None:
            return "unseeded"
        return answer.decode() if isinstance(answer, bytes) else _failure(answer) or "unreachable"

    async def seed(self, make: Callable[[], Seed]) -> None:
        mine = uuid.uuid4().hex
        if await self._link.request("EVAL", _BEGIN, "0", mine, str(_SEEDING_MS)) != 1:
            return  # it is seeded, another process is at it, or nobody is there
        at_it = asyncio.create_task(self._at_it(mine))
        try:
            await self._write(await asyncio.to_thread(make), mine)
        except BaseException:
            await self._link.request("EVAL", _GIVE_UP, "0", mine)
            raise
        finally:
            at_it.cancel()

    async def _at_it(self, mine: str) -> None:
        """Keep others from seeding, for the ledger may take longer than it takes to notice that somebody has died."""
        while True:
            await asyncio.sleep(_SEEDING_MS / 3000)
            with suppress(hiredis.ReplyError):
                await self._link.request("EVAL", _GO_ON, "0", mine, str(_SEEDING_MS))

    async def _write(self, seed: Seed, mine: str) -> None:
        commands: list[tuple[str, ...]] = []
        for account, spent in seed.spent.items():
            key = f"{{aion}}:a:{account}"
            commands += [("HSET", key, "s", str(spent)), ("EXPIRE", key, str(expires_seconds(account)))]
        commands += [("SET", f"{{aion}}:d:{id}", "", "EX", str(DONE_SECONDS)) for id in seed.done]
        for start in range(0, len(commands), _SEED_AT_ONCE):
            part = commands[start : start + _SEED_AT_ONCE]
            answers = await asyncio.gather(*(self._link.request(*command) for command in part))
            if any(_failure(answer) is not None for answer in answers):
                return  # the next look finds it unseeded
        await self._link.request("EVAL", _FINISH, "0", mine)

    def close(self) -> None:
        self._link.close()


# A Redis that was started anew may have read an old copy of its data: what was spent since then only the ledger knows.
# Every connection to it begins with this. Who may not ask for the run has no epoch taken away.
_RUN = """
local info = redis.pcall('INFO', 'server')
local run = type(info) == 'string' and string.match(info, 'run_id:(%x+)') or 'unknown'
"""
_SAME_RUN = _RUN + """
if redis.call('GET', '{aion}:run') ~= run then redis.call('DEL', '{aion}:e') end
return 0
"""
_BEGIN = """
if redis.call('EXISTS', '{aion}:e') == 1 then return 0 end
return redis.call('SET', '{aion}:seeding', ARGV[1], 'NX', 'PX', ARGV[2]) and 1 or 0
"""
_GO_ON = """
if redis.call('GET', '{aion}:seeding') == ARGV[1] then redis.call('PEXPIRE', '{aion}:seeding', ARGV[2]) end
return 0
"""
_GIVE_UP = """
if redis.call('GET', '{aion}:seeding') == ARGV[1] then redis.call('DEL', '{aion}:seeding') end
return 0
"""
# Only who still has the right to seed may say that it is done.
_FINISH = _RUN + """
if redis.call('GET', '{aion}:seeding') ~= ARGV[1] then return 0 end
redis.call('SET', '{aion}:run', run)
redis.call('SET', '{aion}:e', ARGV[1])
redis.call('DEL', '{aion}:seeding')
return 1
"""


def _failure(answer: Any) -> Failure | None:
    if answer == b"unseeded":
        return "unseeded"
    if answer == "timeout":
        return "timeout"
    if answer == "unreachable" or isinstance(answer, hiredis.ReplyError):
        if isinstance(answer, hiredis.ReplyError):
            log.error("redis_refused", error=str(answer)[:200])
        return "unreachable"
    return None


def _settled(settlements: Sequence[Settlement], answer: Sequence[bytes]) -> list[Settled]:
    told = iter(map(int, answer))
    settled = []
    for one in settlements:
        if not next(told):
            settled.append(Settled())
            continue
        after = tuple(next(told) for _ in one.spent)
        before = tuple(there - amount for there, (_, amount) in zip(after, one.spent, strict=True))
        settled.append(Settled(before, after))
    return settled
