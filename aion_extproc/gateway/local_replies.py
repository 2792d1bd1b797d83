"""Envoy's own error replies in the shape of the API that was called.

Our own refusals (ext_proc's ImmediateResponse) are local replies too; they set the metadata key `refused` and are
left as they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

from envoy_data_plane.envoy.config.accesslog import v3 as accesslog
from envoy_data_plane.envoy.config.core import v3 as core
from envoy_data_plane.envoy.config.route import v3 as route
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager import v3 as hcm
from envoy_data_plane.envoy.type.matcher import v3 as matcher
from envoy_data_plane.google.protobuf import Struct

from aion_extproc.gateway.spec import NAMESPACE

Filter = accesslog.AccessLogFilter

# Envoy's name for a failure → what the client's user should read.
_MESSAGES = {
    "UO": "As many requests are open at the model provider as the gateway may have there (max_requests).",
    "UF": "The gateway could not connect to the model provider.",
    "UH": "No healthy model provider is available.",
    "UC": "The model provider closed the connection before it answered.",
    "UR": "The model provider reset the connection before it answered.",
    "UT": "The model provider did not answer in time.",
    "DF": "The model provider's host name could not be resolved.",
    "SI": "Nothing was sent for longer than the gateway's idle timeout.",
}
_RETRY_AFTER = core.HeaderValueOption(header=core.HeaderValue(key="retry-after", value="1"))
_BAD_HTTP = "The request is not one that the gateway can read (%RESPONSE_CODE_DETAILS%)."
_DEFAULT = "The gateway could not complete the request (%RESPONSE_CODE_DETAILS%)."


def local_replies() -> hcm.LocalReplyConfig:
    """The first mapper whose filter matches shapes the reply; replies below 400 match none."""
    mappers: list[hcm.ResponseMapper] = []
    for flag, message in _MESSAGES.items():
        flagged = Filter(response_flag_filter=accesslog.ResponseFlagFilter(flags=[flag]))
        retry_after = [_RETRY_AFTER] if flag == "UO" else []
        mappers += _both([flagged, _status("GE", 400)], message, retry_after, client_fault=False)
    client = [_status("GE", 400), _status("LE", 499)]
    mappers += _both(client, _BAD_HTTP, client_fault=True)
    # "overload": there is no memory left (gateway/overload.py). Envoy sets no flag for it.
    mappers += _both([_status("EQ", 503)], _DEFAULT, [_RETRY_AFTER], client_fault=False)
    mappers += _both([_status("GE", 500)], _DEFAULT, client_fault=False)
    return hcm.LocalReplyConfig(mappers=mappers)


def _both(
    conditions: list[Filter], message: str, headers: Sequence[core.HeaderValueOption] = (), *, client_fault: bool
) -> Iterator[hcm.ResponseMapper]:
    anthropic = {"type": "invalid_request_error" if client_fault else "api_error", "message": message}
    openai = {
        "message": message,
        "type": "invalid_request_error" if client_fault else "server_error",
        "param": None,
        "code": "bad_http" if client_fault else "gateway_error",
    }
    shape: dict[str, object] = {"type": "error", "error": anthropic, "request_id": "%REQ(x-request-id)%"}
    yield _mapper([_not_ours(), _called_anthropic(), *conditions], shape, headers)
    yield _mapper([_not_ours(), *conditions], {"error": openai}, headers)


def _mapper(
    conditions: list[Filter], body: dict[str, object], headers: Sequence[core.HeaderValueOption]
) -> hcm.ResponseMapper:
    return hcm.ResponseMapper(
        headers_to_add=list(headers),
        filter=Filter(and_filter=accesslog.AndFilter(filters=conditions)),
        body_format_override=core.SubstitutionFormatString(
            json_format=Struct.from_dict(body), content_type="application/json"
        ),
    )


def _not_ours() -> Filter:
    # Where the key is set, the filter's answer is whether the value matches (`invert` is not looked at): our
    # code is never empty, so this is false for our refusals and true for all else.
    never = matcher.ValueMatcher(string_match=matcher.StringMatcher(exact=""))
    return _metadata("refused", never, otherwise=True)


def _called_anthropic() -> Filter:
    """By the decision where there is one (it rewrote the path, perhaps to the other API's), else by the path."""
    decided = matcher.ValueMatcher(string_match=matcher.StringMatcher(exact="anthropic"))
    prefix = matcher.StringMatcher(prefix="/v1/messages")
    header = route.HeaderMatcher(name=":path", string_match=prefix)
    never = matcher.ValueMatcher(string_match=matcher.StringMatcher(exact=""))
    by_path = [Filter(header_filter=accesslog.HeaderFilter(header=header)), _metadata("format", never, otherwise=True)]
    either = [
        _metadata("format", decided, otherwise=False),
        Filter(and_filter=accesslog.AndFilter(filters=by_path)),
    ]
    return Filter(or_filter=accesslog.OrFilter(filters=either))


def _metadata(key: str, value: matcher.ValueMatcher, *, otherwise: bool) -> Filter:
    path = [matcher.MetadataMatcherPathSegment(key=key)]
    match = matcher.MetadataMatcher(filter=NAMESPACE, path=path, value=value)
    return Filter(metadata_filter=accesslog.MetadataFilter(matcher=match, match_if_key_not_found=otherwise))


def status_code(op: Literal["GE", "LE", "EQ"], status: int) -> accesslog.StatusCodeFilter:
    """Whether the answer's status compares so; where there is none it is 0."""
    value = core.RuntimeUInt32(default_value=status, runtime_key="aion.unused")
    comparison = accesslog.ComparisonFilter(op=accesslog.ComparisonFilterOp[op], value=value)
    return accesslog.StatusCodeFilter(comparison=comparison)


def _status(op: Literal["GE", "LE", "EQ"], status: int) -> Filter:
    return Filter(status_code_filter=status_code(op, status))
