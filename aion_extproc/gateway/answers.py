"""The filters that show answers to a worker: of requests whose route says so, and those of a chain that were marked on
their way back from a fallback cluster. All others pass them by.

In the fallback clusters themselves such a filter crashes Envoy 1.40 with the first answer that fills a buffer: flow
control of answers does not work there.
"""

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
from aion_extproc.gateway.spec import NAMESPACE, TRANSLATE_HEADER


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


def translate_filter() -> matching.ExtensionWithMatcher:
    """On for the answers that are marked. An error is better than an answer that the client cannot read."""
    shown = _shown_to("translate", whole_answer(), failure_mode_allow=False)
    marked = xds.MatcherMatcherListPredicate(
        single_predicate=xds.MatcherMatcherListPredicateSinglePredicate(
            input=xds_core.TypedExtensionConfig(
                name="marked", typed_config=pack(inputs.HttpResponseHeaderMatchInput(header_name=TRANSLATE_HEADER))
            ),
            value_match=xds.StringMatcher(exact="1"),
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
