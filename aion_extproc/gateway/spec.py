"""What the Envoy configuration is made from: plain values, nothing secret."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

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


@dataclass(frozen=True, slots=True)
class Upstream:
    """One provider as Envoy sees it."""

    name: str
    host: str
    port: int
    tls: bool
    signing: Literal["aws", "gcp"] | None = None  # whose credentials Envoy puts on; None: the key is a header of ours
    region: str = ""  # that is signed for

    @property
    def cluster(self) -> str:
        return cluster_name(self.name)


def cluster_name(provider: str) -> str:
    """The Envoy cluster of a provider."""
    return f"provider_{provider}"


@dataclass(frozen=True, slots=True)
class Spec:
    """All sizes in bytes, all times in seconds."""

    listen: str
    port: int
    admin_port: int
    upstreams: tuple[Upstream, ...]
    worker_sockets: tuple[Path, ...]
    api_socket: Path
    envoy_admin_socket: Path
    listeners_file: Path | None  # listeners are read from this file (so that they can be drained) or are static
    usage: Literal["envoy", "ext_proc"]
    max_body_bytes: int
    idle_timeout: float
    connect_timeout: float
    gcp_metadata_host: str = "metadata.google.internal"  # host[:port]


def make_spec(
    settings: Settings, providers: Iterable[Provider], run_dir: Path, *, listeners_from_file: bool = False
) -> Spec:
    """The Envoy side of the settings, with all sockets in `run_dir`."""
    gateway = settings.gateway
    return Spec(
        listen=gateway.listen,
        port=gateway.port,
        admin_port=gateway.admin_port,
        upstreams=tuple(Upstream(p.name, p.host, p.port, p.tls, p.signing, p.region) for p in providers),
        worker_sockets=tuple(run_dir / f"worker-{index}.sock" for index in range(gateway.workers)),
        api_socket=run_dir / "api.sock",
        envoy_admin_socket=run_dir / "envoy-admin.sock",
        listeners_file=run_dir / "listeners.json" if listeners_from_file else None,
        usage=gateway.usage,
        max_body_bytes=gateway.max_body_bytes,
        idle_timeout=gateway.idle_timeout,
        connect_timeout=gateway.connect_timeout,
        # The variable that Google's own libraries read.
        gcp_metadata_host=os.environ.get("GCE_METADATA_HOST") or "metadata.google.internal",
    )
