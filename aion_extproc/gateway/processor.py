"""How Envoy's filters and logs reach the workers."""

from __future__ import annotations

from envoy_data_plane.envoy.config.common.mutation_rules import v3 as mutation
from envoy_data_plane.envoy.config.core import v3 as core
from envoy_data_plane.envoy.extensions.filters.http.ext_proc import v3 as ext_proc

from aion_extproc.gateway.pack import seconds

EXTPROC_CLUSTER = "aion_extproc"  # the workers
LEDGER_CLUSTER = "aion_ledger"  # the process that keeps the ledger
# Longer than any stream may last; ext_proc's gRPC streams are bounded by the HTTP stream they belong to.
GRPC_TIMEOUT = 24 * 3600.0


def workers(phase: str) -> core.GrpcService:
    """Any of the workers. `phase` tells it which exchange is wanted."""
    return core.GrpcService(
        envoy_grpc=core.GrpcServiceEnvoyGrpc(cluster_name=EXTPROC_CLUSTER),
        timeout=seconds(GRPC_TIMEOUT),
        initial_metadata=[core.HeaderValue(key="x-aion-phase", value=phase)],
        # A worker that has just died refuses connections until the health check has seen it: try another one.
        retry_policy=core.RetryPolicy(num_retries=3, retry_on="connect-failure,refused-stream,reset-before-request"),
    )


def whole_request() -> ext_proc.ProcessingMode:
    """Headers and body of the request, nothing of the answer."""
    send, skip = ext_proc.ProcessingModeHeaderSendMode.SEND, ext_proc.ProcessingModeHeaderSendMode.SKIP
    return ext_proc.ProcessingMode(
        request_header_mode=send,
        request_body_mode=ext_proc.ProcessingModeBodySendMode.FULL_DUPLEX_STREAMED,
        request_trailer_mode=send,
        response_header_mode=skip,
        response_body_mode=ext_proc.ProcessingModeBodySendMode.NONE,
        response_trailer_mode=skip,
    )


def any_header() -> mutation.HeaderMutationRules:
    """What a request exchange may set: all that routes and addresses a request."""
    return mutation.HeaderMutationRules(allow_all_routing=True, allow_envoy=True)


def namespaces(*names: str) -> ext_proc.MetadataOptionsMetadataNamespaces:
    return ext_proc.MetadataOptionsMetadataNamespaces(untyped=list(names))
