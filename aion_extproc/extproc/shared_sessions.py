"""Sessions that all processes of a gateway share: the next turn of a conversation may come to any of them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from aion_extproc.extproc.bus import Bus
from aion_extproc.routing.sessions import Sessions

KIND = "session"
BATCH_SECONDS = 0.05  # a turn takes longer than that to be answered, so the next one finds it told


def share_sessions(
    sessions: Sessions, bus: Bus, batch_seconds: float = BATCH_SECONDS, clock: Callable[[], float] = time.monotonic
) -> None:
    """From now on tell the peers what changes in `sessions`, and take over what they tell. For the running loop's
    thread. 0 seconds: in this turn of the loop."""

    def tell() -> None:
        while (update := sessions.updates()) is not None:
            bus.publish(KIND, update, urgent=True)

    def changed() -> None:
        asyncio.get_running_loop().call_later(batch_seconds, tell)

    sessions.on_change = changed
    bus.subscribe(KIND, lambda update: sessions.apply(update, clock()), sessions.recent)
