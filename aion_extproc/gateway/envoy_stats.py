"""What Envoy's own statistics say about providers: how many requests are open there, how its health checks went.

`admin` is the socket of Envoy's administration.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import httpx

from aion_extproc.gateway.spec import provider_of

_OPEN = "upstream_rq_active"
_PASSED, _HEALTHY = "health_check.success", "membership_healthy"


@dataclass(frozen=True, slots=True)
class Check:
    """The health check of a provider that has one."""

    passes: bool
    passed: int  # times


async def in_flight(admin: Path) -> Counter[str] | None:
    """Open requests by provider. None: nobody answers at `admin`."""
    stats = await _stats(admin, _OPEN)
    if stats is None:
        return None
    counts: Counter[str] = Counter()
    for (cluster, _), value in stats.items():
        provider = provider_of(cluster)
        if provider is not None:
            counts[provider] += value
    return counts


async def checks(admin: Path) -> dict[str, Check]:
    """By provider; empty where none has one, or nobody answers at `admin`."""
    stats = await _stats(admin, f"({_PASSED}|{_HEALTHY})") or {}
    found = {}
    for (cluster, name), value in stats.items():
        provider = provider_of(cluster) if name == _PASSED else None
        if provider is not None:
            found[provider] = Check(passes=stats.get((cluster, _HEALTHY), 0) > 0, passed=value)
    return found


async def _stats(admin: Path, names: str) -> dict[tuple[str, str], int] | None:
    """The statistics of all clusters whose names match the expression, by (cluster, name)."""
    query = {"format": "json", "filter": rf"^cluster\..*\.{names}$"}
    try:
        # Nothing is verified on a Unix socket, and to read the CA bundle for it takes 30 ms.
        transport = httpx.AsyncHTTPTransport(uds=str(admin), verify=False)
        async with httpx.AsyncClient(transport=transport, timeout=1, trust_env=False) as client:
            answer = await client.get("http://envoy/stats", params=query)
            stats = answer.raise_for_status().json()["stats"]
    except (httpx.HTTPError, ValueError, KeyError):
        return None
    return {
        (stat["name"].removeprefix("cluster.").removesuffix(f".{name}"), name): stat["value"]
        for stat in stats
        for name in (_OPEN, _PASSED, _HEALTHY)
        if stat.get("name", "").endswith(f".{name}")  # cluster names have dots too; histograms have no name here
    }
