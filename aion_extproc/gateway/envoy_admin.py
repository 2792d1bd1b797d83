"""Envoy's admin interface, on a Unix socket. https://www.envoyproxy.io/docs/envoy/latest/operations/admin"""

from __future__ import annotations

import asyncio
import http.client
import json
import re
import socket
from collections.abc import Mapping
from pathlib import Path

_SECONDS = 1.0


class AdminError(Exception):
    """Envoy cannot be asked: it is starting, gone, or hangs."""


class EnvoyAdmin:
    """What we ask and tell a running Envoy. Every method raises AdminError."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def stats(self, *names: str) -> dict[str, str]:
        """Counters, gauges and texts as they are printed; what Envoy does not have is not in it."""
        pattern = "|".join(map(re.escape, names))
        lines = (await self._ask("GET", f"/stats?filter=^({pattern})$")).splitlines()
        return {name: value.strip().strip('"') for name, _, value in (line.partition(": ") for line in lines)}

    async def gauge(self, name: str) -> int:
        """0 when there is none."""
        return int((await self.stats(name)).get(name, "0"))

    async def hosts(self, cluster: str) -> dict[str, bool]:
        """The Unix sockets of a cluster, and whether requests are sent there."""
        statuses = json.loads(await self._ask("GET", "/clusters?format=json")).get("cluster_statuses", [])
        hosts = next((one.get("host_statuses", ()) for one in statuses if one["name"] == cluster), ())
        return {host["address"]["pipe"]["path"]: _well(host["health_status"]) for host in hosts}

    async def last_requests(self) -> None:
        """From now on every answer is the last one on its connection: `connection: close`, GOAWAY."""
        await self._ask("POST", "/healthcheck/fail")

    async def close_ports(self) -> None:
        """Of the inbound listeners. What is connected stays."""
        await self._ask("POST", "/drain_listeners?inboundonly")

    async def _ask(self, method: str, path: str) -> str:
        return await asyncio.to_thread(self._ask_now, method, path)

    def _ask_now(self, method: str, path: str) -> str:
        connection = http.client.HTTPConnection("envoy", timeout=_SECONDS)
        connection.sock = socket.socket(socket.AF_UNIX)
        try:
            connection.sock.settimeout(_SECONDS)
            connection.sock.connect(str(self._path))
            connection.request(method, path)
            answer = connection.getresponse()
            text = answer.read().decode()
        except (OSError, http.client.HTTPException) as error:
            raise AdminError(f"Envoy cannot be asked: {error!r}") from None
        finally:
            connection.close()
        if answer.status != 200:
            raise AdminError(f"Envoy answers {path} with {answer.status}")
        return text


def _well(status: Mapping[str, object]) -> bool:
    flags = {name: value for name, value in status.items() if name != "eds_health_status"}
    return not flags and status.get("eds_health_status", "HEALTHY") in ("HEALTHY", "UNKNOWN")
