"""Between Envoy's messages and the exchanges' plain values."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache

from google.protobuf.struct_pb2 import Struct, Value

from aion_extproc.extproc import envoy_pb2 as pb
from aion_extproc.extproc.replies import Amend, Headers, LetPass, Proceed, Refuse, WantWhole, Watch
from aion_extproc.gateway.spec import NAMESPACE

# Far below gRPC's message limit, and small enough that Envoy's flow control works on it.
_PIECE = 64 * 1024
_OVERWRITE = pb.HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD


def header_map(headers: pb.HeaderMap) -> dict[str, str]:
    """Names are in lower case already (Envoy's doing). Of a name that comes twice the last value counts."""
    return {
        header.key: header.raw_value.decode("utf-8", "surrogateescape") or header.value for header in headers.headers
    }


def proceed_messages(reply: Proceed) -> Iterator[pb.ProcessingResponse]:
    """The headers, which Envoy has been waiting for, then the body in pieces."""
    first = pb.ProcessingResponse()
    common = first.request_headers.response
    common.clear_route_cache = bool(reply.clusters)  # the headers set here choose the route
    _set_headers(common.header_mutation, reply.set_headers)
    common.header_mutation.remove_headers.extend(reply.remove_headers)
    fields = first.dynamic_metadata.fields[NAMESPACE].struct_value
    _fill(fields, reply.metadata)
    if reply.clusters:
        fields.fields["priority_groups"].CopyFrom(_priority_groups(reply.clusters))
    yield first
    body = reply.body
    for start in range(0, len(body) or 1, _PIECE):
        message = pb.ProcessingResponse()
        piece = message.request_body.response.body_mutation.streamed_response
        piece.body = body[start : start + _PIECE]
        piece.end_of_stream = start + _PIECE >= len(body)
        yield message


@lru_cache(4096)
def _priority_groups(clusters: tuple[str, ...]) -> Value:
    """One group for each cluster in order. The same few chains come again and again."""
    groups = Value()
    for number, cluster in enumerate(clusters, 1):
        group = groups.list_value.values.add().struct_value
        group.fields["name"].string_value = str(number)
        entry = group.fields["clusters"].list_value.values.add().struct_value
        entry.fields["cluster_name"].string_value = cluster
        entry.fields["weight"].number_value = 1
    return groups


def refuse_message(reply: Refuse) -> pb.ProcessingResponse:
    message = pb.ProcessingResponse()
    immediate = message.immediate_response
    immediate.status.code = reply.status
    immediate.body = reply.body
    immediate.details = reply.details
    _set_headers(immediate.headers, reply.headers)
    _fill(message.dynamic_metadata.fields[NAMESPACE].struct_value, reply.metadata)
    return message


def response_headers_message(wish: LetPass | WantWhole | Watch | Amend) -> pb.ProcessingResponse:
    """Go on to the body of the answer: without us, chunk by chunk, or held by Envoy and sent in one message. Amend:
    there is none, and this is it."""
    message = pb.ProcessingResponse()
    message.response_headers.SetInParent()
    _tell(message, message.response_headers.response, wish)
    if isinstance(wish, Amend):
        if wish.body is not None:
            message.response_headers.response.body_mutation.body = wish.body
        message.response_headers.response.status = pb.CommonResponse.CONTINUE_AND_REPLACE
    elif not isinstance(wish, Watch):
        whole = isinstance(wish, WantWhole)
        mode = message.mode_override
        mode.response_header_mode = pb.ProcessingMode.SEND
        mode.response_body_mode = pb.ProcessingMode.BUFFERED if whole else pb.ProcessingMode.NONE
        mode.request_header_mode = pb.ProcessingMode.SKIP
        mode.request_trailer_mode = pb.ProcessingMode.SKIP
        mode.response_trailer_mode = pb.ProcessingMode.SKIP
    return message


def amend_message(reply: Amend) -> pb.ProcessingResponse:
    message = pb.ProcessingResponse()
    message.response_body.SetInParent()
    _tell(message, message.response_body.response, reply)
    if reply.body is not None:
        message.response_body.response.body_mutation.body = reply.body
    return message


def attribute(message: pb.ProcessingRequest, name: str) -> str:
    """An attribute that is a text; "" where Envoy sent none of that name."""
    for attributes in message.attributes.values():
        if name in attributes.fields:
            return attributes.fields[name].string_value
    return ""


def metadata_text(metadata: pb.Metadata, key: str) -> str:
    """One of our own metadata strings; "" when it is not there."""
    # Reading a missing key of a protobuf map would insert it.
    if NAMESPACE not in metadata.filter_metadata:
        return ""
    fields = metadata.filter_metadata[NAMESPACE].fields
    return fields[key].string_value if key in fields else ""


def _set_headers(mutation: pb.HeaderMutation, headers: Headers | Iterable[tuple[str, str]]) -> None:
    for name, value in headers:
        option = mutation.set_headers.add()
        option.header.key = name
        option.header.raw_value = value.encode("utf-8", "surrogateescape")
        option.append_action = _OVERWRITE


def _tell(
    message: pb.ProcessingResponse, common: pb.CommonResponse, reply: LetPass | WantWhole | Watch | Amend
) -> None:
    if reply.set_headers or reply.remove_headers:
        _set_headers(common.header_mutation, reply.set_headers)
        common.header_mutation.remove_headers.extend(reply.remove_headers)
    if reply.metadata:
        _fill(message.dynamic_metadata.fields[NAMESPACE].struct_value, reply.metadata)


def _fill(fields: Struct, metadata: Mapping[str, str]) -> None:
    for key, value in metadata.items():
        fields.fields[key].string_value = value
