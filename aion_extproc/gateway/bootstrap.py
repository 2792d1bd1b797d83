"""The whole Envoy configuration as plain data, ready to be written as JSON or YAML."""

from __future__ import annotations

import ssl
from typing import Any, cast

import betterproto2
from envoy_data_plane.envoy.config.bootstrap import v3 as bootstrap
from envoy_data_plane.envoy.config.core import v3 as core
from envoy_data_plane.envoy.service.discovery import v3 as discovery

from aion_extproc.gateway.clusters import clusters
from aion_extproc.gateway.listener import metrics_listener, public_listener
from aion_extproc.gateway.pack import pack, pipe
from aion_extproc.gateway.spec import Spec

_SYSTEM_CA = "/etc/ssl/certs/ca-certificates.crt"


def render_bootstrap(spec: Spec, ca_file: str | None = None) -> dict[str, Any]:
    """Envoy's bootstrap. With `spec.listeners_file` the listeners are read from there (`render_listeners`)."""
    static = bootstrap.BootstrapStaticResources(clusters=clusters(spec, ca_file or system_ca_file()))
    dynamic = None
    if spec.listeners_file is None:
        static.listeners = [public_listener(spec), metrics_listener(spec)]
    else:
        source = core.PathConfigSource(path=str(spec.listeners_file))
        dynamic = bootstrap.BootstrapDynamicResources(
            lds_config=core.ConfigSource(path_config_source=source, resource_api_version=core.ApiVersion.V3)
        )
    return _plain(
        bootstrap.Bootstrap(
            node=core.Node(id="aion-gateway", cluster="aion"),
            admin=bootstrap.Admin(address=pipe(spec.envoy_admin_socket)),
            static_resources=static,
            dynamic_resources=dynamic,
        )
    )


def render_listeners(spec: Spec) -> dict[str, Any]:
    """The file that `spec.listeners_file` names."""
    return _discovery([pack(public_listener(spec)), pack(metrics_listener(spec))])


def render_draining_listeners(spec: Spec) -> dict[str, Any]:
    """Put in the former's place, it makes Envoy drain the public listener, then cut what is still open on it."""
    return _discovery([pack(metrics_listener(spec))])


def _discovery(resources: list[Any]) -> dict[str, Any]:
    return _plain(discovery.DiscoveryResponse(version_info="1", resources=resources))


def _plain(message: betterproto2.Message) -> dict[str, Any]:
    # The field names as they are: betterproto2's own casing writes consecutive_5xx as consecutive_5_xx.
    return message.to_dict(casing=cast(betterproto2.Casing, _same))


def _same(name: str) -> str:
    return name


def system_ca_file() -> str:
    """The machine's own CA bundle, as OpenSSL finds it (SSL_CERT_FILE counts)."""
    return ssl.get_default_verify_paths().cafile or _SYSTEM_CA
