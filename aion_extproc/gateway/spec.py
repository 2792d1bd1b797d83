"""What the Envoy configuration is made from: plain values, nothing secret."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

from aion_extproc.gateway.files import Files

if TYPE_CHECKING:
    from aion_extproc.config.schema import Settings
    from aion_extproc.providers import Provider

# The metadata namespace in which a decision travels through Envoy, and the keys that Envoy itself reads.
NAMESPACE = "aion"
USAGE_NAMESPACE = "aion.usage"
# Set by the request exchange, read by the routes, never sent on: which way the answer takes.
RESPONSE_HEADER = "x-aion-response"
RESPONSE_PROCESS = "process"  # through aion.response
RESPONSE_TRANSLATE = "translate"  # through aion.response, without which the client could not read it
RESPONSE_STRIP_USAGE = "strip-usage"  # through the Lua filter that takes the unasked-for usage chunk out
# The listener of ours for attempts that are written when they are made (gateway/fallback.py), what such a request
# brings, and what its answer takes back: what was sent, and how it ended in Envoy's words. None of it leaves us.
FALLBACK_CLUSTER = "aion_fallback"
FACTS_HEADER = "x-aion-facts"
CHAIN_HEADER = "x-aion-chain"
ATTEMPT_HEADER = "x-aion-attempt"
SERVED_HEADER = "x-aion-served"
ENDED_HEADER = "x-aion-ended"
UPSTREAM_HEADER = "x-aion-upstream"  # and within it: the cluster that the exchange has chosen

ENVOY_ADMIN_SOCKET = "envoy-admin.sock"  # beside the sockets of the workers and the API

# Of a log stream: its entries go to another process first.
SECOND_HEADER = "x-aion-second"

# Answer headers and the metadata keys they are filled from.
ANSWER_HEADERS = (
    "model",
    "provider",
    "tier",
    "score",
    "task",
    "reason",
    "dropped",
    "cost-usd",
    "savings-usd",
)


# The same, under the names that OpenAI's clients know: of who has such a limit here. Others get the provider's own.
RATE_HEADERS = tuple(
    f"ratelimit-{what}-{kind}" for what in ("limit", "remaining", "reset") for kind in ("requests", "tokens")
)


@dataclass(frozen=True, slots=True)
class Upstream:
    """One provider as Envoy sees it."""

    name: str
    host: str
    port: int
    tls: bool
    signing: Literal["aws", "gcp"] | None = None  # whose credentials Envoy puts on; None: the key is a header of ours
    region: str = ""  # that is signed for
    health_path: str = ""  # that Envoy asks whether the server is up; "": it does not
    revision: int = 0
    max_requests: int | None = None  # open at once

    @property
    def cluster(self) -> str:
        return cluster_name(self.name, self.revision)


def cluster_name(provider: str, revision: int = 0) -> str:
    """The Envoy cluster of a provider.

    `revision`: the generation of the configuration that gave it its present address; 0: the first. A new address is a
    new cluster: what was meant for the old one must not reach the new one with the old one's key.
    """
    suffix = f"~{revision}" if revision else ""  # "~" is in no provider's name
    return f"provider_{provider}{suffix}"


def provider_of(cluster: str) -> str | None:
    """Whose cluster that is; None: no provider's."""
    prefix = cluster_name("")
    return cluster.removeprefix(prefix).partition("~")[0] if cluster.startswith(prefix) else None


@dataclass(frozen=True, slots=True)
class Spec:
    """All sizes in bytes, all times in seconds."""

    listen: str
    port: int
    admin_port: int
    upstreams: tuple[Upstream, ...]
    worker_sockets: tuple[Path, ...]
    ledger_socket: Path
    api_socket: Path
    fallback_socket: Path
    envoy_admin_socket: Path
    files: Files | None  # None: all is static, in the bootstrap
    usage: Literal["envoy", "ext_proc"]
    max_body_bytes: int
    envoy_memory_bytes: int
    idle_timeout: float
    connect_timeout: float
    gcp_metadata_host: str = "metadata.google.internal"  # host[:port]


def make_spec(
    settings: Settings,
    providers: Iterable[Provider],
    run_dir: Path,
    *,
    from_files: bool = False,
    revisions: Mapping[str, int] = MappingProxyType({}),
) -> Spec:
    """The Envoy side of the settings, with all sockets in `run_dir`."""
    gateway = settings.gateway
    return Spec(
        listen=gateway.listen,
        port=gateway.port,
        admin_port=gateway.admin_port,
        upstreams=tuple(
            Upstream(
                p.name,
                p.host,
                p.port,
                p.tls,
                p.signing,
                p.region,
                p.health_path,
                revisions.get(p.name, 0),
                settings.enabled_providers[p.name].max_requests,
            )
            for p in providers
        ),
        worker_sockets=tuple(run_dir / f"worker-{index}.sock" for index in range(gateway.workers)),
        ledger_socket=run_dir / "ledger-0.sock",
        api_socket=run_dir / "api.sock",
        fallback_socket=run_dir / "fallback.sock",
        envoy_admin_socket=run_dir / ENVOY_ADMIN_SOCKET,
        files=Files(run_dir) if from_files else None,
        usage=gateway.usage,
        max_body_bytes=gateway.max_body_bytes,
        envoy_memory_bytes=gateway.envoy_memory_bytes,
        idle_timeout=gateway.idle_timeout,
        connect_timeout=gateway.connect_timeout,
        # The variable that Google's own libraries read.
        gcp_metadata_host=os.environ.get("GCE_METADATA_HOST") or "metadata.google.internal",
    )
