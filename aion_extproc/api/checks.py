"""Carries Envoy's health checks of local servers to everybody's health.

Envoy itself does not act on them: to a cluster without a healthy address it would answer at once, and try no other
model. Routing does, which leaves the server out before.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import NoReturn

from aion_extproc.extproc.shared_health import SharedHealth
from aion_extproc.gateway.envoy_stats import Check

LOOK_SECONDS = 1.0


async def carry(checks: Callable[[], Awaitable[Mapping[str, Check]]], health: SharedHealth) -> NoReturn:
    """Once a second, until cancelled."""
    before: Mapping[str, Check] = {}
    looked_at = time.monotonic()
    while True:
        await asyncio.sleep(LOOK_SECONDS)
        now, found = time.monotonic(), await checks()
        told = {
            provider: check.passes
            for provider, check in found.items()
            if not check.passes or check.passed > before.get(provider, check).passed
        }
        health.checked(told, looked_at)  # what has passed since the last look may have failed since
        before, looked_at = found, now
