"""The way of the attempts that are written when they are made: through a listener of our own, whose request exchange
writes the attempt for its model, and on to the provider's cluster.

Such an attempt is an upstream request like any other to the router that walks the chain: whatever goes wrong on this
way, in a worker too, is an answer after which it tries the next one. In an upstream filter of a cluster nothing is
tried after an answer of the filter's own; and Envoy 1.40 crashes there as soon as a gRPC stream is full.

What the attempt is comes in headers of the request, and what became of it goes back in one of the answer.
"""

from __future__ import annotations

import betterproto2
from envoy_data_plane.envoy.config.cluster import v3 as cluster
from envoy_data_plane.envoy.config.core import v3 as core
from envoy_data_plane.envoy.config.endpoint import v3 as endpoint
from envoy_data_plane.envoy.config.listener import v3 as listener
from envoy_data_plane.envoy.config.route import v3 as route
from envoy_data_plane.envoy.extensions.filters.http.ext_proc import v3 as ext_proc
from envoy_data_plane.envoy.extensions.filters.http.header_mutation import v3 as header_mutation
from envoy_data_plane.envoy.extensions.filters.http.router import v3 as router
from envoy_data_plane.envoy.extensions.filters.http.upstream_codec import v3 as upstream_codec
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager import v3 as hcm
from envoy_data_plane.envoy.extensions.upstreams.http import v3 as upstream_http

from aion_extproc.gateway.clusters import HTTP_OPTIONS, breakers
from aion_extproc.gateway.header_values import content_length, set_header
from aion_extproc.gateway.local_replies import local_replies
from aion_extproc.gateway.pack import MEBIBYTE, pack, pipe, seconds
from aion_extproc.gateway.processor import any_header, namespaces, whole_request, workers
from aion_extproc.gateway.spec import (
    ATTEMPT_HEADER,
    CHAIN_HEADER,
    ENDED_HEADER,
    FACTS_HEADER,
    FALLBACK_CLUSTER,
    NAMESPACE,
    SERVED_HEADER,
    UPSTREAM_HEADER,
    Spec,
)

_LARGEST_HEADERS = 1024  # KiB: a client's own, and what is decided
_MOST_HEADERS = 1000
_ANY_BODY = 1 << 30  # bytes; the public listener has refused what is too large


def fallback_cluster(spec: Spec) -> cluster.Cluster:
    """Our own listener. One connection a request, so that no client that reads slowly holds up another."""
    told = [
        set_header(FACTS_HEADER, f"%DYNAMIC_METADATA({NAMESPACE}:facts)%"),
        set_header(CHAIN_HEADER, f"%DYNAMIC_METADATA({NAMESPACE}:chain)%"),
        set_header(ATTEMPT_HEADER, "%UPSTREAM_REQUEST_ATTEMPT_COUNT%"),
    ]
    headers = header_mutation.HeaderMutation(mutations=header_mutation.Mutations(request_mutations=told))
    options = upstream_http.HttpProtocolOptions(
        common_http_protocol_options=core.HttpProtocolOptions(
            max_headers_count=_MOST_HEADERS, max_response_headers_kb=_LARGEST_HEADERS
        ),
        explicit_http_config=upstream_http.HttpProtocolOptionsExplicitHttpConfig(
            http_protocol_options=core.Http1ProtocolOptions()
        ),
        http_filters=[
            _filter("envoy.filters.http.header_mutation", headers),
            _filter("envoy.filters.http.upstream_codec", upstream_codec.UpstreamCodec()),
        ],
    )
    address = endpoint.LbEndpoint(endpoint=endpoint.Endpoint(address=pipe(spec.fallback_socket)))
    return cluster.Cluster(
        name=FALLBACK_CLUSTER,
        type=cluster.ClusterDiscoveryType.STATIC,
        connect_timeout=seconds(1),
        circuit_breakers=breakers(),
        load_assignment=endpoint.ClusterLoadAssignment(
            cluster_name=FALLBACK_CLUSTER, endpoints=[endpoint.LocalityLbEndpoints(lb_endpoints=[address])]
        ),
        typed_extension_protocol_options={HTTP_OPTIONS: pack(options)},
    )


def fallback_listener(spec: Spec) -> listener.Listener:
    manager = hcm.HttpConnectionManager(
        stat_prefix="aion_fallback",
        codec_type=hcm.HttpConnectionManagerCodecType.HTTP1,
        route_config=_routes(),
        http_filters=[
            _filter("aion.attempt", _attempt()),
            _filter("envoy.filters.http.header_mutation", _headers()),
            _filter("envoy.filters.http.router", router.Router(suppress_envoy_headers=True)),
        ],
        local_reply_config=local_replies(),
        # Who comes here is the public listener.
        generate_request_id=False,
        preserve_external_request_id=True,
        skip_xff_append=True,
        server_header_transformation=hcm.HttpConnectionManagerServerHeaderTransformation.PASS_THROUGH,
        common_http_protocol_options=core.HttpProtocolOptions(
            idle_timeout=seconds(3600), max_headers_count=_MOST_HEADERS
        ),
        stream_idle_timeout=seconds(0),
        delayed_close_timeout=seconds(1),
        max_request_headers_kb=_LARGEST_HEADERS,
    )
    return listener.Listener(
        name="aion_fallback",
        address=pipe(spec.fallback_socket),
        per_connection_buffer_limit_bytes=MEBIBYTE,
        filter_chains=[
            listener.FilterChain(
                filters=[
                    listener.Filter(
                        name="envoy.filters.network.http_connection_manager", typed_config=pack(manager)
                    )
                ]
            )
        ],
    )


def _routes() -> route.RouteConfiguration:
    """To the cluster that the exchange names; the same for every configuration."""
    attempt = route.Route(
        name="attempt",
        match=route.RouteMatch(prefix="/"),
        request_body_buffer_limit=_ANY_BODY,
        route=route.RouteAction(
            cluster_header=UPSTREAM_HEADER,
            timeout=seconds(0),
            # A connection that was closed just then: the request has not reached the provider.
            retry_policy=route.RetryPolicy(
                retry_on="connect-failure,refused-stream,reset-before-request", num_retries=1
            ),
        ),
    )
    host = route.VirtualHost(name="all", domains=["*"], routes=[attempt])
    return route.RouteConfiguration(
        name="aion_fallback",
        virtual_hosts=[host],
        request_headers_to_remove=[
            UPSTREAM_HEADER, "x-forwarded-proto", "x-forwarded-for", "x-envoy-original-path"
        ],
    )


def _attempt() -> ext_proc.ExternalProcessor:
    return ext_proc.ExternalProcessor(
        grpc_service=workers("attempt"),
        stat_prefix="attempt",
        processing_mode=whole_request(),
        mutation_rules=any_header(),
        metadata_options=ext_proc.MetadataOptions(receiving_namespaces=namespaces(NAMESPACE)),
    )


def _headers() -> header_mutation.HeaderMutation:
    return header_mutation.HeaderMutation(
        mutations=header_mutation.Mutations(
            request_mutations=[content_length()],
            # Overwritten, whatever a provider says. There is nothing where a worker was lost before it had written the
            # request; then nobody was asked, and the answer is marked all the same.
            response_mutations=[
                set_header(SERVED_HEADER, f"%DYNAMIC_METADATA({NAMESPACE}:served)%"),
                set_header(SERVED_HEADER, "{}", only_if_absent=True),
                set_header(ENDED_HEADER, "%RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS%"),
            ],
        )
    )


def _filter(name: str, config: betterproto2.Message) -> hcm.HttpFilter:
    return hcm.HttpFilter(name=name, typed_config=pack(config))
