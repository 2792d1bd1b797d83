"""The whole Envoy configuration as plain data, ready to be written as JSON or YAML."""

from __future__ import annotations

import ssl
from collections.abc import Iterable
from pathlib import Path
from typing import Any, cast

import betterproto2
from envoy_data_plane.envoy.config.bootstrap import v3 as bootstrap
from envoy_data_plane.envoy.config.core import v3 as core
from envoy_data_plane.envoy.config.listener import v3 as listener
from envoy_data_plane.envoy.service.discovery import v3 as discovery

from aion_extproc.gateway.clusters import own_clusters, process_endpoints, provider_clusters
from aion_extproc.gateway.fallback import fallback_cluster, fallback_listener
from aion_extproc.gateway.listener import metrics_listener, public_listener
from aion_extproc.gateway.overload import overload_manager
from aion_extproc.gateway.pack import config_source, pack, pipe
from aion_extproc.gateway.routes import public_routes
from aion_extproc.gateway.spec import Spec

_SYSTEM_CA = "/etc/ssl/certs/ca-certificates.crt"


def render_bootstrap(spec: Spec, ca_file: str | None = None) -> dict[str, Any]:
    """Envoy's bootstrap. With `spec.files` it is only what never changes; the rest Envoy reads from there."""
    static = bootstrap.BootstrapStaticResources(clusters=[*own_clusters(spec), fallback_cluster(spec)])
    dynamic = None
    if spec.files is None:
        static.clusters = [*provider_clusters(spec, ca_file or system_ca_file()), *static.clusters]
        static.listeners = _listeners(spec)
    else:
        dynamic = bootstrap.BootstrapDynamicResources(
            lds_config=config_source(spec.files.listeners), cds_config=config_source(spec.files.clusters)
        )
    return _plain(
        bootstrap.Bootstrap(
            node=core.Node(id="aion-gateway", cluster="aion"),
            admin=bootstrap.Admin(address=pipe(spec.envoy_admin_socket)),
            static_resources=static,
            dynamic_resources=dynamic,
            overload_manager=overload_manager(spec.envoy_memory_bytes),
        )
    )


def render_listeners(spec: Spec) -> dict[str, Any]:
    """For `spec.files.listeners`."""
    return _discovery(_listeners(spec))


def render_last_listeners(spec: Spec) -> dict[str, Any]:
    """Put in the former's place, it makes Envoy cut what is still open on the public listener."""
    return _discovery([fallback_listener(spec), metrics_listener(spec)])


def render_routes(spec: Spec, version: str) -> dict[str, Any]:
    """For `spec.files.routes`."""
    return _discovery([public_routes(spec)], version)


def render_clusters(spec: Spec, version: str) -> dict[str, Any]:
    """For `spec.files.clusters`."""
    return _discovery(provider_clusters(spec, system_ca_file()), version)


def render_workers(cluster: str, sockets: Iterable[Path]) -> dict[str, Any]:
    """For `spec.files.workers` and the like: the processes of a cluster that take requests."""
    return _discovery([process_endpoints(cluster, sockets)])


def _listeners(spec: Spec) -> list[listener.Listener]:
    return [public_listener(spec), fallback_listener(spec), metrics_listener(spec)]


def _discovery(resources: Iterable[betterproto2.Message], version: str = "1") -> dict[str, Any]:
    packed = [pack(resource) for resource in resources]
    return _plain(discovery.DiscoveryResponse(version_info=version, resources=packed))


def _plain(message: betterproto2.Message) -> dict[str, Any]:
    # The field names as they are: betterproto2's own casing writes consecutive_5xx as consecutive_5_xx.
    return message.to_dict(casing=cast(betterproto2.Casing, _same))


def _same(name: str) -> str:
    return name


def system_ca_file() -> str:
    """The machine's own CA bundle, as OpenSSL finds it (SSL_CERT_FILE counts)."""
    return ssl.get_default_verify_paths().cafile or _SYSTEM_CA
