"""Envoy clusters: one a provider, one for the ext_proc workers, one for the HTTP API."""

from __future__ import annotations

from pathlib import Path

from envoy_data_plane.envoy.config.cluster import v3 as cluster
from envoy_data_plane.envoy.config.core import v3 as core
from envoy_data_plane.envoy.config.endpoint import v3 as endpoint
from envoy_data_plane.envoy.extensions.load_balancing_policies.least_request import v3 as least_request
from envoy_data_plane.envoy.extensions.transport_sockets.tls import v3 as tls
from envoy_data_plane.envoy.extensions.upstreams.http import v3 as upstream_http
from envoy_data_plane.envoy.type import v3 as envoy_type

from aion_extproc.gateway.cloud_auth import cluster_metadata, metadata_clusters, upstream_filters
from aion_extproc.gateway.pack import pack, pipe, seconds, tcp
from aion_extproc.gateway.spec import Spec, Upstream

EXTPROC_CLUSTER = "aion_extproc"
API_CLUSTER = "aion_api"
_HTTP_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
# A cluster's own limits must not be what sheds load: that is decided where the client's error shape is known.
_UNLIMITED = 1_000_000


def clusters(spec: Spec, ca_file: str) -> list[cluster.Cluster]:
    """All clusters; `ca_file` is the bundle that https providers' certificates are checked against."""
    return [
        *(_provider(upstream, spec, ca_file) for upstream in spec.upstreams),
        *metadata_clusters(spec),
        _extproc(spec.worker_sockets),
        _api(spec.api_socket),
    ]


def _provider(upstream: Upstream, spec: Spec, ca_file: str) -> cluster.Cluster:
    return cluster.Cluster(
        name=upstream.cluster,
        # LOGICAL_DNS holds one connection pool however many addresses a CDN rotates through.
        type=cluster.ClusterDiscoveryType.LOGICAL_DNS,
        dns_lookup_family=cluster.ClusterDnsLookupFamily.V4_PREFERRED,
        respect_dns_ttl=True,
        wait_for_warm_on_init=False,  # a provider that cannot be resolved must not hold up the others
        connect_timeout=seconds(spec.connect_timeout),
        circuit_breakers=_breakers(),
        outlier_detection=cluster.OutlierDetection(
            # Only what says "this address is broken"; a provider's 429 and 500 are judged by the router's health.
            split_external_local_origin_errors=True,
            consecutive_local_origin_failure=5,
            enforcing_consecutive_local_origin_failure=100,
            enforcing_consecutive_5xx=0,
            enforcing_consecutive_gateway_failure=0,
            enforcing_success_rate=0,
            enforcing_local_origin_success_rate=0,
            base_ejection_time=seconds(5),
            max_ejection_time=seconds(30),
            max_ejection_percent=100,
        ),
        # All addresses ejected must mean an error at once, not traffic to a dead one.
        common_lb_config=_no_panic(),
        transport_socket=_tls(upstream.host, ca_file) if upstream.tls else None,
        typed_extension_protocol_options={_HTTP_OPTIONS: pack(_protocols(upstream))},
        metadata=cluster_metadata(upstream),
        load_assignment=_endpoints(upstream.cluster, [tcp(upstream.host, upstream.port)]),
    )


def _protocols(upstream: Upstream) -> upstream_http.HttpProtocolOptions:
    """ALPN picks HTTP/2 where there is TLS; plain text servers get HTTP/1.1."""
    # Shorter than the idle time after which common load balancers close a connection under a request.
    common = core.HttpProtocolOptions(idle_timeout=seconds(55))
    http1 = core.Http1ProtocolOptions()
    filters = upstream_filters(upstream)
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


def _extproc(sockets: tuple[Path, ...]) -> cluster.Cluster:
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
    return cluster.Cluster(
        name=EXTPROC_CLUSTER,
        type=cluster.ClusterDiscoveryType.STATIC,
        load_balancing_policy=_least_busy(),
        connect_timeout=seconds(0.25),
        circuit_breakers=_breakers(),
        common_lb_config=_no_panic(),
        health_checks=[check],
        typed_extension_protocol_options={_HTTP_OPTIONS: pack(options)},
        load_assignment=_endpoints(EXTPROC_CLUSTER, [pipe(path) for path in sockets]),
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
        circuit_breakers=_breakers(),
        load_assignment=_endpoints(API_CLUSTER, [pipe(socket)]),
    )


def _breakers() -> cluster.CircuitBreakers:
    # max_retries defaults to 3 at once, which fails retries under load; the others default to 1024.
    limits = cluster.CircuitBreakersThresholds(
        max_connections=_UNLIMITED,
        max_pending_requests=_UNLIMITED,
        max_requests=_UNLIMITED,
        max_retries=_UNLIMITED,
    )
    return cluster.CircuitBreakers(thresholds=[limits])


def _no_panic() -> cluster.ClusterCommonLbConfig:
    return cluster.ClusterCommonLbConfig(healthy_panic_threshold=envoy_type.Percent(value=0))


def _endpoints(name: str, addresses: list[core.Address]) -> endpoint.ClusterLoadAssignment:
    hosts = [endpoint.LbEndpoint(endpoint=endpoint.Endpoint(address=address)) for address in addresses]
    return endpoint.ClusterLoadAssignment(
        cluster_name=name, endpoints=[endpoint.LocalityLbEndpoints(lb_endpoints=hosts)]
    )
