"""Envoy listeners: the public one with the filter chain, and the admin one that serves /metrics."""

from __future__ import annotations

from importlib.resources import files

from envoy_data_plane.envoy.config.accesslog import v3 as accesslog
from envoy_data_plane.envoy.config.common.mutation_rules import v3 as mutation
from envoy_data_plane.envoy.config.core import v3 as core
from envoy_data_plane.envoy.config.listener import v3 as listener
from envoy_data_plane.envoy.extensions.access_loggers.grpc import v3 as grpc_log
from envoy_data_plane.envoy.extensions.compression.brotli.decompressor import v3 as brotli
from envoy_data_plane.envoy.extensions.compression.gzip.decompressor import v3 as gzip
from envoy_data_plane.envoy.extensions.compression.zstd.decompressor import v3 as zstd
from envoy_data_plane.envoy.extensions.filters.http.decompressor import v3 as decompressor
from envoy_data_plane.envoy.extensions.filters.http.ext_proc import v3 as ext_proc
from envoy_data_plane.envoy.extensions.filters.http.header_mutation import v3 as header_mutation
from envoy_data_plane.envoy.extensions.filters.http.lua import v3 as lua
from envoy_data_plane.envoy.extensions.filters.http.router import v3 as router
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager import v3 as hcm
from envoy_data_plane.envoy.extensions.http.early_header_mutation.header_mutation import v3 as early
from envoy_data_plane.google.protobuf import Any

from aion_extproc.gateway.answers import fallback_filter, response_filter
from aion_extproc.gateway.cloud_auth import listener_filters
from aion_extproc.gateway.files import Files
from aion_extproc.gateway.header_values import content_length, set_header
from aion_extproc.gateway.local_replies import local_replies, status_code
from aion_extproc.gateway.pack import MEBIBYTE, config_source, pack, pack_fields, seconds, tcp
from aion_extproc.gateway.processor import (
    EXTPROC_CLUSTER,
    GRPC_TIMEOUT,
    LEDGER_CLUSTER,
    any_header,
    namespaces,
    whole_request,
    workers,
)
from aion_extproc.gateway.routes import (
    ERROR_FILTER,
    PUBLIC_ROUTES,
    REQUEST_FILTER,
    RESPONSE_FILTER,
    STRIP_FILTER,
    metrics_routes,
    public_routes,
)
from aion_extproc.gateway.spec import (
    ANSWER_HEADERS,
    ENDED_HEADER,
    NAMESPACE,
    RATE_HEADERS,
    RESPONSE_HEADER,
    SECOND_HEADER,
    USAGE_NAMESPACE,
    Spec,
)


def public_listener(spec: Spec) -> listener.Listener:
    # Inbound: the one that /drain_listeners?inboundonly closes.
    inbound = core.TrafficDirection.INBOUND
    return _listener("aion_public", spec.listen, spec.port, _public_manager(spec), inbound)


def metrics_listener(spec: Spec) -> listener.Listener:
    return _listener("aion_admin", "127.0.0.1", spec.admin_port, _metrics_manager())


def _listener(
    name: str,
    host: str,
    port: int,
    manager: hcm.HttpConnectionManager,
    direction: core.TrafficDirection = core.TrafficDirection.UNSPECIFIED,
) -> listener.Listener:
    network_filter = listener.Filter(
        name="envoy.filters.network.http_connection_manager", typed_config=pack(manager)
    )
    return listener.Listener(
        name=name,
        address=tcp(host, port),
        per_connection_buffer_limit_bytes=MEBIBYTE,
        traffic_direction=direction,
        filter_chains=[listener.FilterChain(filters=[network_filter])],
    )


def _routes_from_file(files: Files) -> hcm.Rds:
    return hcm.Rds(config_source=config_source(files.routes), route_config_name=PUBLIC_ROUTES)


def _public_manager(spec: Spec) -> hcm.HttpConnectionManager:
    return hcm.HttpConnectionManager(
        stat_prefix="aion_public",
        codec_type=hcm.HttpConnectionManagerCodecType.AUTO,
        route_config=public_routes(spec) if spec.files is None else None,
        rds=_routes_from_file(spec.files) if spec.files is not None else None,
        http_filters=[
            *_decompressors(),
            _filter(REQUEST_FILTER, pack(_request_filter())),
            *listener_filters(spec),
            # Answers pass the filters from the last to the first: what is stripped has been counted before.
            _filter(ERROR_FILTER, pack(_script("error_shape.lua"))),
            _filter(STRIP_FILTER, pack(_script("usage_chunk.lua"))),
            _filter(RESPONSE_FILTER, pack(response_filter())),
            _filter("aion.fallback", pack(fallback_filter())),
            _filter("envoy.filters.http.header_mutation", pack(_header_mutation())),
            *([_filter("envoy.filters.http.ai_protocol_manager", _usage_filter())] if spec.usage == "envoy" else []),
            _filter("envoy.filters.http.router", pack(_router())),
        ],
        access_log=_access_logs(),
        local_reply_config=local_replies(),
        # Nothing that a client sends may steer the router: every client counts as external (its x-envoy-* are
        # removed), and what the exchanges and routes speak of among themselves is removed on arrival.
        use_remote_address=True,
        skip_xff_append=True,
        internal_address_config=hcm.HttpConnectionManagerInternalAddressConfig(
            cidr_ranges=[core.CidrRange(address_prefix="192.0.2.0", prefix_len=32)]
        ),
        early_header_mutation_extensions=[_early_removals()],
        generate_request_id=True,
        always_set_request_id_in_response=True,
        normalize_path=True,
        merge_slashes=True,
        server_header_transformation=hcm.HttpConnectionManagerServerHeaderTransformation.PASS_THROUGH,
        common_http_protocol_options=core.HttpProtocolOptions(idle_timeout=seconds(3600)),
        # Idle, not total: a stream may last as long as something moves on it.
        stream_idle_timeout=seconds(spec.idle_timeout),
        request_headers_timeout=seconds(30),
        delayed_close_timeout=seconds(1),
        max_request_headers_kb=96,
    )


def _router() -> router.Router:
    """With a log of its own for attempts that failed: Envoy's request log knows only the last one."""
    failed = accesslog.OrFilter(
        filters=[
            accesslog.AccessLogFilter(status_code_filter=status_code("GE", 400)),
            accesslog.AccessLogFilter(status_code_filter=status_code("EQ", 0)),
            accesslog.AccessLogFilter(response_flag_filter=accesslog.ResponseFlagFilter()),
        ]
    )
    return router.Router(
        suppress_envoy_headers=True, upstream_log=_access_logs(accesslog.AccessLogFilter(or_filter=failed))
    )


def _filter(name: str, config: Any) -> hcm.HttpFilter:
    return hcm.HttpFilter(name=name, typed_config=config)


def _request_filter() -> ext_proc.ExternalProcessor:
    return ext_proc.ExternalProcessor(
        grpc_service=workers("request"),
        stat_prefix="request",
        processing_mode=whole_request(),
        mutation_rules=any_header(),
        metadata_options=ext_proc.MetadataOptions(receiving_namespaces=namespaces(NAMESPACE)),
    )


def _header_mutation() -> header_mutation.HeaderMutation:
    """Content-length of the rewritten request, and the X-AION headers of every answer."""
    answer = [(f"x-aion-{name}", _answer_value(name)) for name in ANSWER_HEADERS]
    answer += [(f"x-{name}", _answer_value(name)) for name in RATE_HEADERS]
    return header_mutation.HeaderMutation(
        mutations=header_mutation.Mutations(
            request_mutations=[
                content_length(),
                mutation.HeaderMutation(remove=RESPONSE_HEADER),
            ],
            response_mutations=[
                *(set_header(name, value) for name, value in answer),
                set_header("x-aion-attempts", "%UPSTREAM_REQUEST_ATTEMPT_COUNT%"),
                # Envoy puts our own id in its place; a question to the provider needs theirs.
                set_header("x-aion-provider-request-id", "%RESP(X-REQUEST-ID)%"),
                # Where Anthropic's SDK looks for it; a provider that sends its own keeps it.
                set_header("request-id", "%REQ(X-REQUEST-ID)%", only_if_absent=True),
            ],
        )
    )


def _answer_value(name: str) -> str:
    key = name.replace("-", "_")
    if not key.endswith("_usd"):
        return f"%DYNAMIC_METADATA({NAMESPACE}:{key})%"
    # Nobody bills an error answer. Without the key (a refusal) the expression fails and there is no header.
    return f"%CEL(response.code < 300 ? metadata.filter_metadata['{NAMESPACE}']['{key}'] : '0.000000')%"


def _script(name: str) -> lua.Lua:
    script = files("aion_extproc.gateway").joinpath(name).read_text()
    return lua.Lua(default_source_code=core.DataSource(inline_string=script))


def _decompressors() -> list[hcm.HttpFilter]:
    """Compressed requests are read all the same. Answers are not touched: nobody asked for a compressed one, and behind
    a decompressor a held answer never ends (its end comes as trailers that Envoy forgets while ext_proc waits)."""
    libraries = {"gzip": gzip.Gzip(), "br": brotli.Brotli(), "zstd": zstd.Zstd()}
    return [_filter(f"aion.{name}", pack(_decompressor(name, pack(library)))) for name, library in libraries.items()]


def _decompressor(name: str, library: Any) -> decompressor.Decompressor:
    def common(on: bool) -> decompressor.DecompressorCommonDirectionConfig:
        flag = core.RuntimeFeatureFlag(default_value=on, runtime_key="aion.unused")
        return decompressor.DecompressorCommonDirectionConfig(enabled=flag, ignore_no_transform_header=True)

    return decompressor.Decompressor(
        decompressor_library=core.TypedExtensionConfig(name=name, typed_config=library),
        request_direction_config=decompressor.DecompressorRequestDirectionConfig(
            common_config=common(True), advertise_accept_encoding=False
        ),
        response_direction_config=decompressor.DecompressorResponseDirectionConfig(common_config=common(False)),
    )


def _usage_filter() -> Any:
    usage = {"include_unconfigured_routes": True, "metadata_namespace": USAGE_NAMESPACE}
    return pack_fields(
        "envoy.extensions.filters.http.ai_protocol_manager.v3.AiProtocolManager",
        {"response_handling": {"token_usage": usage}},
    )


def _early_removals() -> core.TypedExtensionConfig:
    names = [RESPONSE_HEADER, "x-request-id", "x-forwarded-for", "x-forwarded-proto"]
    removals = early.HeaderMutation(mutations=[mutation.HeaderMutation(remove=name) for name in names])
    return core.TypedExtensionConfig(name="aion.strip_internal", typed_config=pack(removals))


def _access_logs(only: accesslog.AccessLogFilter | None = None) -> list[accesslog.AccessLog]:
    """To the ledger's process, and once more to a worker, which keeps it in case that the former dies."""
    return [_access_log(LEDGER_CLUSTER, only), _access_log(EXTPROC_CLUSTER, only, second=True)]


def _access_log(
    cluster: str, only: accesslog.AccessLogFilter | None, *, second: bool = False
) -> accesslog.AccessLog:
    config = grpc_log.HttpGrpcAccessLogConfig(
        additional_response_headers_to_log=["retry-after", ENDED_HEADER],
        common_config=grpc_log.CommonGrpcAccessLogConfig(
            log_name=cluster,
            transport_api_version=core.ApiVersion.V3,
            buffer_flush_interval=seconds(0.1),
            buffer_size_bytes=65536,
            grpc_service=core.GrpcService(
                envoy_grpc=core.GrpcServiceEnvoyGrpc(cluster_name=cluster),
                timeout=seconds(GRPC_TIMEOUT),
                initial_metadata=[core.HeaderValue(key=SECOND_HEADER, value="1")] if second else [],
            ),
        ),
    )
    return accesslog.AccessLog(name="envoy.access_loggers.http_grpc", filter=only, typed_config=pack(config))


def _never() -> accesslog.AccessLogFilter:
    return accesslog.AccessLogFilter(status_code_filter=status_code("GE", 999))


def _metrics_manager() -> hcm.HttpConnectionManager:
    return hcm.HttpConnectionManager(
        stat_prefix="aion_admin",
        route_config=metrics_routes(),
        http_filters=[_filter("envoy.filters.http.router", pack(router.Router()))],
        # Logs nothing, but holds the same logger: when the public listener is drained and removed, the entries
        # of the streams that were cut then are still in that logger's buffer, and would be lost with it.
        access_log=_access_logs(_never()),
    )

