"""The filters of the fallback clusters: each attempt that comes there is rewritten for its model on its way out, and
its answer is marked where it must be translated (gateway/answers.py).

They run for every attempt anew, so a retry finds the body as the first attempt had it, and the headers as the last
attempt left them.
"""

from __future__ import annotations

from envoy_data_plane.envoy.extensions.filters.http.ext_proc import v3 as ext_proc
from envoy_data_plane.envoy.extensions.filters.http.header_mutation import v3 as header_mutation
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager import v3 as hcm

from aion_extproc.gateway.header_values import content_length, set_header
from aion_extproc.gateway.pack import pack
from aion_extproc.gateway.processor import any_header, namespaces, whole_request, workers
from aion_extproc.gateway.spec import NAMESPACE, TRANSLATE_HEADER


def attempt_filters() -> list[hcm.HttpFilter]:
    exchange = ext_proc.ExternalProcessor(
        grpc_service=workers("attempt"),
        stat_prefix="attempt",
        processing_mode=whole_request(),
        mutation_rules=any_header(),
        request_attributes=["upstream.request_attempt_count", "xds.cluster_name"],
        metadata_options=ext_proc.MetadataOptions(
            forwarding_namespaces=namespaces(NAMESPACE), receiving_namespaces=namespaces(NAMESPACE)
        ),
    )
    headers = header_mutation.HeaderMutation(
        mutations=header_mutation.Mutations(
            request_mutations=[content_length()],
            response_mutations=[set_header(TRANSLATE_HEADER, f"%DYNAMIC_METADATA({NAMESPACE}:translate)%")],
        )
    )
    return [
        hcm.HttpFilter(name="aion.attempt", typed_config=pack(exchange)),
        hcm.HttpFilter(name="envoy.filters.http.header_mutation", typed_config=pack(headers)),
    ]
