"""The ledger's process: `python -m aion_extproc.extproc.ledger_process`, started by the supervisor.

Envoy's log comes here, not to the workers: what is counted and learned does not depend on the life of any of them.
Should this one die, the workers have the last of the log (journal.py); whoever takes its place asks for it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from aion_extproc.events.webhooks import Webhooks
from aion_extproc.extproc.budget_events import SPENT, BudgetEvents
from aion_extproc.extproc.failed_attempts import FAILED
from aion_extproc.extproc.journal import REPLAY
from aion_extproc.extproc.logs import HEALTH_METHOD, LOGS_METHOD, Check, Logs
from aion_extproc.extproc.process import Parts, Serving, main
from aion_extproc.stores.retention import keep

# Seconds after the start at which workers are asked for what they kept: Envoy may find us some seconds late, and what
# it sends until then reaches them alone.
_ASKED_AT = (1.0, 4.0, 10.0)


async def serve(parts: Parts, beat: Callable[[], None]) -> None:
    """Until it is told to leave."""

    def failed(news: dict[str, Any]) -> None:
        models = [(str(provider), str(model)) for provider, model in news["models"]]
        parts.failed.named(str(news["request"]), models, time.monotonic())

    parts.bus.subscribe(FAILED, failed)
    policies = parts.policies
    webhooks = Webhooks(parts.settings.webhooks, lambda result: parts.metrics.webhook_deliveries.labels(result).inc())
    events = BudgetEvents(lambda scope, name: policies.current.callers.budgets(scope, name), webhooks.emit)
    parts.budget_events = events
    parts.bus.subscribe(SPENT, lambda news: events.spent(news["account"], news["before"], news["after"]))
    logs = Logs(parts.sink.message)
    handlers = {LOGS_METHOD: logs.open, HEALTH_METHOD: lambda reply, _: Check(reply, True)}
    serving = Serving(parts, handlers, logs.leave, beat)
    webhooks.start()
    if parts.settler is not None:
        serving.tasks.append(asyncio.create_task(parts.settler.watch()))
        serving.tasks.append(asyncio.create_task(parts.settler.tell_the_last()))
    serving.tasks.append(asyncio.create_task(_ask(parts)))
    retention = parts.settings.telemetry.retention
    if retention is not None:
        serving.tasks.append(asyncio.create_task(keep(parts.ledger, retention)))
    await serving.run()
    await webhooks.close()  # last: all is written, and what was charged at the end may be news


async def _ask(parts: Parts) -> None:
    start = time.monotonic()
    for at in _ASKED_AT:
        await asyncio.sleep(start + at - time.monotonic())
        parts.bus.publish(REPLAY, {}, True)


if __name__ == "__main__":
    main(serve, batch_seconds=0)  # Envoy's log comes in batches already
