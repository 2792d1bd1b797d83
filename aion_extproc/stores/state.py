"""What all processes of a gateway, or of many, must agree on: what is spent, reserved and used.

Two stores have it: a memory-mapped file that the processes of one machine share (state_local.py), and Redis or Valkey
(state_redis.py). Both count the same way; accounting/holds.py has the rules.

The ledger is the truth of what was spent, a store only its sum. A store that is new, or has lost what it knew, has no
epoch: it grants and settles nothing until somebody has seeded it from the ledger.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from aion_extproc.accounting.holds import Hold, Settled, Settlement, Verdict

# How long a settlement is remembered so that a second one of the same request changes nothing. The log is replayed
# within a minute, settlements that could not be told within SEED_SECONDS.
DONE_SECONDS = 1800
SEED_SECONDS = 1200  # a seed knows the requests that ended in this time before it
MOST_ORPHANS = 20  # that are released by one call
DAY_KEPT_SECONDS = 3 * 86400  # an account of a day
MONTH_KEPT_SECONDS = 40 * 86400

Failure = Literal["unseeded", "timeout", "unreachable"]


class StateError(Exception):
    """The store cannot be used; the message says which one and why, without its password."""


@dataclass(frozen=True, slots=True)
class Seed:
    """What the ledger knows. `spent`: nano-dollars by account; `done`: ids of the requests that are among them."""

    spent: Mapping[str, int]
    done: Sequence[str]


class State(Protocol):
    """One process's way to the store. All calls are made in one thread, that of the event loop."""

    def reserve(self, hold: Hold, then: Callable[[Verdict | Failure], None]) -> None:
        """Ask for it; `then` is told once, perhaps before this returns."""

    def settle(
        self, settlements: Sequence[Settlement], then: Callable[[Sequence[Settled] | Failure], None]
    ) -> None:
        """Tell how requests have ended. On failure nothing, or some of it, has been told: tell it again."""

    async def epoch(self) -> str | Failure:
        """Of the seed that the store works with."""

    async def seed(self, make: Callable[[], Seed]) -> None:
        """Seed the store if nobody else does. `make` may take its time: it is called in a thread."""

    def close(self) -> None: ...


def expires_seconds(account: str) -> int:
    """How long an account is kept after it was last spent from: accounts end with their period."""
    return DAY_KEPT_SECONDS if len(account.rpartition(":")[2]) == 8 else MONTH_KEPT_SECONDS
