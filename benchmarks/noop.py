"""The least that an ext_proc server on grpc.aio can do: `python -m benchmarks.noop SOCKET`.

It serves the product's own Envoy configuration: takes the whole request, hands it back unchanged with the metadata
that Envoy's filters need, looks at no header and parses no body. What is left of the cost is gRPC, asyncio and Envoy.

It reads lines of JSON, `{"cluster": "provider_openai", "way": "process"}`, on standard input and answers each with an
empty line: where requests go from now on, and which way their answers take (the value of x-aion-response, or "").
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterable, AsyncIterator
from typing import TypeAlias

import grpc
import orjson
import uvloop

from aion_extproc.extproc import envoy_pb2 as pb
from aion_extproc.extproc.service import MESSAGE_LIMIT
from aion_extproc.gateway.spec import NAMESPACE, RESPONSE_HEADER

_PIECE = 64 * 1024
_SERVING = b"\x08\x01"  # grpc.health.v1.HealthCheckResponse{status: SERVING}

Requests: TypeAlias = AsyncIterable[pb.ProcessingRequest]
Context: TypeAlias = "grpc.aio.ServicerContext[pb.ProcessingRequest, pb.ProcessingResponse]"


class Noop:
    """The three services of a worker, without a worker's work."""

    def __init__(self) -> None:
        self._first = _first_message("", "")
        self._hold = _hold_message()
        self._body = pb.ProcessingResponse()
        self._body.response_body.SetInParent()

    def follow(self, line: bytes) -> None:
        wish = orjson.loads(line)
        self._first = _first_message(wish["cluster"], wish["way"])

    def handlers(self) -> tuple[grpc.GenericRpcHandler, ...]:
        process = grpc.stream_stream_rpc_method_handler(
            self.process, pb.ProcessingRequest.FromString, pb.ProcessingResponse.SerializeToString
        )
        logs: grpc.RpcMethodHandler[bytes, bytes] = grpc.stream_unary_rpc_method_handler(self.access_logs, None, None)
        check: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(self.check, None, None)
        generic = grpc.method_handlers_generic_handler
        return (
            generic("envoy.service.ext_proc.v3.ExternalProcessor", {"Process": process}),
            generic("envoy.service.accesslog.v3.AccessLogService", {"StreamAccessLogs": logs}),
            generic("grpc.health.v1.Health", {"Check": check}),
        )

    async def process(self, requests: Requests, context: Context) -> AsyncIterator[pb.ProcessingResponse]:
        parts = []
        async for message in requests:
            if message.HasField("request_body"):
                parts.append(message.request_body.body)
                if message.request_body.end_of_stream:
                    body = b"".join(parts)
                    first = pb.ProcessingResponse()
                    first.CopyFrom(self._first)
                    first.dynamic_metadata.fields[NAMESPACE].struct_value.fields["content_length"].string_value = str(
                        len(body)
                    )
                    yield first
                    for start in range(0, len(body), _PIECE):
                        reply = pb.ProcessingResponse()
                        piece = reply.request_body.response.body_mutation.streamed_response
                        piece.body = body[start : start + _PIECE]
                        piece.end_of_stream = start + _PIECE >= len(body)
                        yield reply
                    return
            elif message.HasField("response_headers"):
                yield self._hold
            elif message.HasField("response_body"):
                yield self._body
                return

    async def access_logs(self, messages: AsyncIterable[bytes], context: Context) -> bytes:
        async for _ in messages:
            pass
        return b""

    async def check(self, request: bytes, context: Context) -> bytes:
        return _SERVING


def _first_message(cluster: str, way: str) -> pb.ProcessingResponse:
    message = pb.ProcessingResponse()
    common = message.request_headers.response
    common.clear_route_cache = True
    if way:
        option = common.header_mutation.set_headers.add()
        option.header.key = RESPONSE_HEADER
        option.header.raw_value = way.encode()
        option.append_action = pb.HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD
    group = message.dynamic_metadata.fields[NAMESPACE].struct_value.fields["priority_groups"].list_value.values.add()
    group.struct_value.fields["name"].string_value = cluster
    entry = group.struct_value.fields["clusters"].list_value.values.add().struct_value
    entry.fields["cluster_name"].string_value = cluster
    entry.fields["weight"].number_value = 1
    return message


def _hold_message() -> pb.ProcessingResponse:
    """Send the answer's body, whole."""
    message = pb.ProcessingResponse()
    message.response_headers.SetInParent()
    mode = message.mode_override
    mode.response_header_mode = pb.ProcessingMode.SEND
    mode.response_body_mode = pb.ProcessingMode.BUFFERED
    mode.request_header_mode = pb.ProcessingMode.SKIP
    mode.request_trailer_mode = pb.ProcessingMode.SKIP
    mode.response_trailer_mode = pb.ProcessingMode.SKIP
    return message


async def serve(socket: str) -> None:
    noop = Noop()
    # The options of the product's worker.
    server = grpc.aio.server(
        options=[
            ("grpc.max_receive_message_length", MESSAGE_LIMIT),
            ("grpc.max_send_message_length", MESSAGE_LIMIT),
            ("grpc.max_concurrent_streams", 10_000),
            ("grpc.http2.min_ping_interval_without_data_ms", 500),
            ("grpc.http2.max_ping_strikes", 0),
        ]
    )
    server.add_generic_rpc_handlers(noop.handlers())
    server.add_insecure_port(f"unix:{socket}")
    await server.start()

    ended = asyncio.Event()

    def read() -> None:
        line = sys.stdin.buffer.readline()
        if not line:
            ended.set()
            return
        noop.follow(line)
        sys.stdout.write("\n")
        sys.stdout.flush()

    asyncio.get_running_loop().add_reader(sys.stdin.fileno(), read)
    await ended.wait()
    await server.stop(None)


if __name__ == "__main__":
    uvloop.run(serve(sys.argv[1]))
