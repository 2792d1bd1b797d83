"""A worker process: `python -m aion_extproc.extproc.worker`, started by the supervisor. It decides requests.

It also keeps the last of Envoy's log, and makes rows of that when the ledger's process has died (`REPLAY` on the bus)
or when this one leaves. The ledger takes no row twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from aion_extproc.extproc.failed_attempts import FAILED, FailedAttempts, Models
from aion_extproc.extproc.journal import REPLAY, Journal
from aion_extproc.extproc.log_sink import LogSink
from aion_extproc.extproc.process import Parts, Serving, main
from aion_extproc.extproc.service import Service


async def serve(parts: Parts, beat: Callable[[], None]) -> None:
    """Until it is told to leave."""
    journal = Journal()

    def failed(request_id: str, models: Models) -> None:
        parts.bus.publish(FAILED, {"request": request_id, "models": models}, True)

    def unanswered(reason: str, went_on: bool) -> None:
        parts.metrics.state_failures.labels("reserve", reason, "open" if went_on else "closed").inc()

    service = Service(
        parts.policies, parts.metrics.classified, failed, parts.sink, journal, parts.state, unanswered
    )

    async def replay() -> None:
        # The one that died has counted what it had seen, so only rows are made.
        untold = FailedAttempts(lambda _: None)
        sink = LogSink(parts.policies, lambda row, facts, retry_after: parts.put(row), untold)
        for message in journal.messages():
            sink.message(message)
            await asyncio.sleep(0)  # requests come first

    # When this one leaves, what it has kept goes with it; so it is written now.
    serving = Serving(parts, dict(service.handlers()), service.leave, beat, replay)
    parts.bus.subscribe(REPLAY, lambda _: serving.tasks.append(asyncio.create_task(replay())))
    await serving.run()


if __name__ == "__main__":
    main(serve)
