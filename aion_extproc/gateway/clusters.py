"""Envoy clusters: one a provider, one for the ext_proc workers, one for the HTTP API."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from envoy_data_plane.envoy.config.cluster import v3 as cluster
from envoy_data_plane.envoy.config.core import v3 as core
from envoy_data_plane.envoy.config.endpoint import v3 as endpoint
from envoy_data_plane.envoy.extensions.filters.http.upstream_codec import v3 as upstream_codec
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager import v3 as hcm
from envoy_data_plane.envoy.extensions.load_balancing_policies.least_request import v3 as least_request
from envoy_data_plane.envoy.extensions.transport_sockets.tls import v3 as tls
from envoy_data_plane.envoy.extensions.upstreams.http import v3 as upstream_http
from envoy_data_plane.envoy.type import v3 as envoy_type

from aion_extproc.gateway.cloud_auth import cluster_metadata, metadata_clusters, signing_filters
from aion_extproc.gateway.pack import config_source, pack, pipe, seconds, tcp
from aion_extproc.gateway.processor import EXTPROC_CLUSTER, LEDGER_CLUSTER
from aion_extproc.gateway.spec import Spec, Upstream

API_CLUSTER = "aion_api"
HTTP_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
# But for what the user has set, a cluster's own limits must not be what sheds load.
_UNLIMITED = 1_000_000


def provider_clusters(spec: Spec, ca_file: str) -> list[cluster.Cluster]:
    """Those of the providers; `ca_file` is the bundle that their certificates are checked against."""
    return [*(_provider(upstream, spec, ca_file) for upstream in spec.upstreams), *metadata_clusters(spec)]


def own_clusters(spec: Spec) -> list[cluster.Cluster]:
    """Our own processes."""
    files = spec.files
    return [
        _ours(EXTPROC_CLUSTER, spec.worker_sockets, files.workers if files else None),
        _ours(LEDGER_CLUSTER, (spec.ledger_socket,), files.ledger if files else None),
        _api(spec.api_socket),
    ]


def process_endpoints(name: str, sockets: Iterable[Path]) -> endpoint.ClusterLoadAssignment:
    """The processes of a cluster of ours that take requests."""
    return _endpoints(name, [pipe(path) for path in sockets])


def _provider(upstream: Upstream, spec: Spec, ca_file: str) -> cluster.Cluster:
    return cluster.Cluster(
        name=upstream.cluster,
        # LOGICAL_DNS holds one connection pool however many addresses a CDN rotates through.
        type=cluster.ClusterDiscoveryType.LOGICAL_DNS,
        dns_lookup_family=cluster.ClusterDnsLookupFamily.V4_PREFERRED,
        respect_dns_ttl=True,
        wait_for_warm_on_init=False,  # a provider that cannot be resolved must not hold up the others
        connect_timeout=seconds(spec.connect_timeout),
        circuit_breakers=breakers(upstream.max_requests or _UNLIMITED),
        # No outlier detection: to a cluster without a healthy address Envoy answers at once, and goes on to no other
        # model. What is ill is known to the router's health, which leaves it out of the chain. The panic threshold
        # stays at its default for the same reason: what fails its check is tried all the same.
        health_checks=[_asked_whether_up(upstream)] if upstream.health_path else [],
        transport_socket=_tls(upstream.host, ca_file) if upstream.tls else None,
        typed_extension_protocol_options={HTTP_OPTIONS: pack(_protocols(upstream, signing_filters(upstream)))},
        metadata=cluster_metadata(upstream),
        load_assignment=_endpoints(upstream.cluster, [tcp(upstream.host, upstream.port)]),
    )


def _asked_whether_up(upstream: Upstream) -> core.HealthCheck:
    """Somebody's own server comes and goes. The API process carries what is found to the router's health."""
    host = f"[{upstream.host}]" if ":" in upstream.host else upstream.host
    return core.HealthCheck(
        timeout=seconds(2),  # it may be busy with all its processors
        interval=seconds(2),
        no_traffic_interval=seconds(2),
        no_traffic_healthy_interval=seconds(2),
        unhealthy_interval=seconds(1),
        unhealthy_threshold=3,
        healthy_threshold=1,
        http_health_check=core.HealthCheckHttpHealthCheck(
            host=host,
            path=upstream.health_path,
            # Who says 404 or 401 is there, though not the server that the path is from. llama.cpp says 503 until its
            # model is loaded.
            expected_statuses=[envoy_type.Int64Range(start=200, end=500)],
        ),
    )


def _protocols(upstream: Upstream, filters: list[hcm.HttpFilter]) -> upstream_http.HttpProtocolOptions:
    """ALPN picks HTTP/2 where there is TLS; plain text servers get HTTP/1.1."""
    # Shorter than the idle time after which common load balancers close a connection under a request.
    common = core.HttpProtocolOptions(idle_timeout=seconds(55))
    http1 = core.Http1ProtocolOptions()
    if filters:
        codec = pack(upstream_codec.UpstreamCodec())
        filters = [*filters, hcm.HttpFilter(name="envoy.filters.http.upstream_codec", typed_config=codec)]
    if not upstream.tls:
        explicit = upstream_http.HttpProtocolOptionsExplicitHttpConfig(http_protocol_options=http1)
        return upstream_http.HttpProtocolOptions(
            common_http_protocol_options=common, explicit_http_config=explicit, http_filters=filters
        )
    http2 = core.Http2ProtocolOptions(
        connection_keepalive=core.KeepaliveSettings(interval=seconds(30), timeout=seconds(10))
    )
    auto = upstream_http.HttpProtocolOptionsAutoHttpConfig(http_protocol_options=http1, http2_protocol_options=http2)
    return upstream_http.HttpProtocolOptions(
        common_http_protocol_options=common, auto_config=auto, http_filters=filters
    )


def _tls(host: str, ca_file: str) -> core.TransportSocket:
    context = tls.UpstreamTlsContext(
        sni=host,
        auto_sni_san_validation=True,
        common_tls_context=tls.CommonTlsContext(
            tls_params=tls.TlsParameters(tls_minimum_protocol_version=tls.TlsParametersTlsProtocol.TLSv1_2),
            validation_context=tls.CertificateValidationContext(trusted_ca=core.DataSource(filename=ca_file)),
        ),
    )
    return core.TransportSocket(name="envoy.transport_sockets.tls", typed_config=pack(context))


def _ours(name: str, sockets: Iterable[Path], file: Path | None) -> cluster.Cluster:
    """Processes of ours that speak gRPC. `file`: where Envoy reads which they are; None: these sockets."""
    keepalive = core.KeepaliveSettings(interval=seconds(1), timeout=seconds(2))
    options = upstream_http.HttpProtocolOptions(
        explicit_http_config=upstream_http.HttpProtocolOptionsExplicitHttpConfig(
            http2_protocol_options=core.Http2ProtocolOptions(
                connection_keepalive=keepalive, max_concurrent_streams=10_000
            )
        )
    )
    check = core.HealthCheck(
        timeout=seconds(1),
        interval=seconds(1),
        unhealthy_threshold=2,
        healthy_threshold=1,
        # These default to 60 s: a worker that is not up at Envoy's start would be out for a minute.
        no_traffic_interval=seconds(1),
        no_traffic_healthy_interval=seconds(1),
        unhealthy_interval=seconds(0.25),
        grpc_health_check=core.HealthCheckGrpcHealthCheck(),
    )
    where = None if file is None else cluster.ClusterEdsClusterConfig(eds_config=config_source(file))
    return cluster.Cluster(
        name=name,
        type=cluster.ClusterDiscoveryType.STATIC if where is None else cluster.ClusterDiscoveryType.EDS,
        eds_cluster_config=where,
        load_assignment=process_endpoints(name, sockets) if where is None else None,
        load_balancing_policy=_least_busy(),
        connect_timeout=seconds(0.25),
        circuit_breakers=breakers(),
        common_lb_config=_no_panic(),
        health_checks=[check],
        # One that is leaving is healthy until its last request is answered.
        ignore_health_on_host_removal=True,
        typed_extension_protocol_options={HTTP_OPTIONS: pack(options)},
    )


def _least_busy() -> cluster.LoadBalancingPolicy:
    """Looking at all workers, not at two drawn by lot: one that hangs collects no more requests than the busiest of
    the others has, instead of every fourth one."""
    policy = least_request.LeastRequest(selection_method=least_request.LeastRequestSelectionMethod.FULL_SCAN)
    extension = core.TypedExtensionConfig(
        name="envoy.load_balancing_policies.least_request", typed_config=pack(policy)
    )
    return cluster.LoadBalancingPolicy(policies=[cluster.LoadBalancingPolicyPolicy(typed_extension_config=extension)])


def _api(socket: Path) -> cluster.Cluster:
    return cluster.Cluster(
        name=API_CLUSTER,
        type=cluster.ClusterDiscoveryType.STATIC,
        connect_timeout=seconds(1),
        circuit_breakers=breakers(),
        load_assignment=_endpoints(API_CLUSTER, [pipe(socket)]),
    )


def breakers(most: int = _UNLIMITED) -> cluster.CircuitBreakers:
    """At most so many requests. Over HTTP/2 Envoy refuses one more; over HTTP/1.1, where it counts connections, as many
    again wait."""
    # max_retries defaults to 3 at once, which fails retries under load; the others default to 1024.
    limits = cluster.CircuitBreakersThresholds(
        max_connections=most, max_pending_requests=most, max_requests=most, max_retries=_UNLIMITED
    )
    return cluster.CircuitBreakers(thresholds=[limits])


def _no_panic() -> cluster.ClusterCommonLbConfig:
    return cluster.ClusterCommonLbConfig(healthy_panic_threshold=envoy_type.Percent(value=0))


def _endpoints(name: str, addresses: list[core.Address]) -> endpoint.ClusterLoadAssignment:
    hosts = [endpoint.LbEndpoint(endpoint=endpoint.Endpoint(address=address)) for address in addresses]
    return endpoint.ClusterLoadAssignment(
        cluster_name=name, endpoints=[endpoint.LocalityLbEndpoints(lb_endpoints=hosts)]
    )
