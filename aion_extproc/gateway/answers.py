"""The filters that show answers to a worker: of requests whose route says so, and those that come by the fallback
listener (gateway/fallback.py), which nobody but a worker can read. All others pass them by."""

from __future__ import annotations

from envoy_data_plane.envoy.config.core import v3 as core
from envoy_data_plane.envoy.extensions.common.matching import v3 as matching
from envoy_data_plane.envoy.extensions.filters.common.matcher.action import v3 as action
from envoy_data_plane.envoy.extensions.filters.http.ext_proc import v3 as ext_proc
from envoy_data_plane.envoy.type.matcher import v3 as inputs
from envoy_data_plane.xds.core import v3 as xds_core
from envoy_data_plane.xds.type.matcher import v3 as xds

from aion_extproc.gateway.pack import pack, seconds
from aion_extproc.gateway.processor import namespaces, workers
from aion_extproc.gateway.spec import NAMESPACE, SERVED_HEADER


def response_filter() -> ext_proc.ExternalProcessor:
    """Off until a route turns it on: an error that Envoy answers before there is a route (bad HTTP) must not wait for
    us, for its connection does not."""
    skip = ext_proc.ProcessingModeHeaderSendMode.SKIP
    none = ext_proc.ProcessingModeBodySendMode.NONE
    off = ext_proc.ProcessingMode(
        request_header_mode=skip,
        request_body_mode=none,
        request_trailer_mode=skip,
        response_header_mode=skip,
        response_body_mode=none,
        response_trailer_mode=skip,
    )
    # The answer is whole without us: only the exact cost in a header would be lost.
    return _shown_to("response", off, failure_mode_allow=True)


def fallback_filter() -> matching.ExtensionWithMatcher:
    """On for answers that have the fallback listener's header. An error is better than an answer that the client cannot
    read."""
    shown = _shown_to("fallback", whole_answer(), failure_mode_allow=False)
    shown.response_attributes = ["xds.cluster_name"]
    marked = xds.MatcherMatcherListPredicate(
        single_predicate=xds.MatcherMatcherListPredicateSinglePredicate(
            input=xds_core.TypedExtensionConfig(
                name="served", typed_config=pack(inputs.HttpResponseHeaderMatchInput(header_name=SERVED_HEADER))
            ),
            value_match=xds.StringMatcher(prefix="{"),
        )
    )
    skip = xds.MatcherOnMatch(
        action=xds_core.TypedExtensionConfig(name="skip", typed_config=pack(action.SkipFilter()))
    )
    other = xds.MatcherMatcherListFieldMatcher(
        predicate=xds.MatcherMatcherListPredicate(not_matcher=marked), on_match=skip
    )
    return matching.ExtensionWithMatcher(
        xds_matcher=xds.Matcher(matcher_list=xds.MatcherMatcherList(matchers=[other])),
        extension_config=core.TypedExtensionConfig(name="envoy.filters.http.ext_proc", typed_config=pack(shown)),
    )


def whole_answer() -> ext_proc.ProcessingMode:
    """Headers of the answer and each chunk of it, or, as the first reply wishes (mode_override), all of it at once."""
    send, skip = ext_proc.ProcessingModeHeaderSendMode.SEND, ext_proc.ProcessingModeHeaderSendMode.SKIP
    return ext_proc.ProcessingMode(
        request_header_mode=skip,
        request_body_mode=ext_proc.ProcessingModeBodySendMode.NONE,
        request_trailer_mode=skip,
        response_header_mode=send,
        response_body_mode=ext_proc.ProcessingModeBodySendMode.STREAMED,
        response_trailer_mode=skip,
    )


def _shown_to(phase: str, mode: ext_proc.ProcessingMode, *, failure_mode_allow: bool) -> ext_proc.ExternalProcessor:
    return ext_proc.ExternalProcessor(
        grpc_service=workers(phase),
        stat_prefix=phase,
        failure_mode_allow=failure_mode_allow,
        message_timeout=seconds(5),
        allow_mode_override=True,
        processing_mode=mode,
        metadata_options=ext_proc.MetadataOptions(
            forwarding_namespaces=namespaces(NAMESPACE), receiving_namespaces=namespaces(NAMESPACE)
        ),
    )
