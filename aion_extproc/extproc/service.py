"""The gRPC edge: Envoy's streams in, the exchanges' replies out."""

from __future__ import annotations

import time
from collections.abc import AsyncIterable, AsyncIterator, Callable
from typing import TypeAlias

import grpc
import structlog

from aion_extproc.accounting.facts import decode
from aion_extproc.accounting.row import LedgerRow
from aion_extproc.accounting.settle import settle
from aion_extproc.extproc import envoy_pb2 as pb
from aion_extproc.extproc.access_log import read_entry
from aion_extproc.extproc.asked import decode_asked
from aion_extproc.extproc.codec import (
    amend_message,
    header_map,
    metadata_text,
    proceed_messages,
    refuse_message,
    response_headers_message,
)
from aion_extproc.extproc.policy import Policy
from aion_extproc.extproc.replies import LetPass, Refuse
from aion_extproc.extproc.request_exchange import RequestExchange
from aion_extproc.extproc.response_exchange import ResponseExchange

log = structlog.get_logger(__name__)

# A held answer comes in one message, and Envoy's buffer may be as large as the largest body allowed.
MESSAGE_LIMIT = 1 << 30
_SERVING = b"\x08\x01"  # grpc.health.v1.HealthCheckResponse{status: SERVING}
_NOT_SERVING = b"\x08\x02"

Requests: TypeAlias = AsyncIterable[pb.ProcessingRequest]
Context: TypeAlias = "grpc.aio.ServicerContext[pb.ProcessingRequest, pb.ProcessingResponse]"


class Service:
    """The three gRPC services of a worker. `row` takes each finished request's ledger row and must not block."""

    def __init__(
        self, policy: Policy, row: Callable[[LedgerRow], None], classified: Callable[[float], None]
    ) -> None:
        self.policy = policy
        self.serving = True
        self.streams = 0  # open exchanges
        self._row = row
        self._classified = classified

    def handlers(self) -> tuple[grpc.GenericRpcHandler, ...]:
        process = grpc.stream_stream_rpc_method_handler(
            self.process, pb.ProcessingRequest.FromString, pb.ProcessingResponse.SerializeToString
        )
        logs = grpc.stream_unary_rpc_method_handler(
            self.access_logs,
            pb.StreamAccessLogsMessage.FromString,
            pb.StreamAccessLogsResponse.SerializeToString,
        )
        check: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(self.check, None, None)
        generic = grpc.method_handlers_generic_handler
        return (
            generic("envoy.service.ext_proc.v3.ExternalProcessor", {"Process": process}),
            generic("envoy.service.accesslog.v3.AccessLogService", {"StreamAccessLogs": logs}),
            generic("grpc.health.v1.Health", {"Check": check}),
        )

    async def process(self, requests: Requests, context: Context) -> AsyncIterator[pb.ProcessingResponse]:
        """One exchange. Returning means that Envoy goes on by itself, so whatever is wrong is raised."""
        self.streams += 1
        try:
            phase = next((value for key, value in context.invocation_metadata() or () if key == "x-aion-phase"), "")
            exchange = self._response(requests) if phase == "response" else self._request(requests)
            async for reply in exchange:
                yield reply
        except Exception as error:
            # The type and place only: an exception's text could quote the request.
            log.error("exchange_failed", error=type(error).__name__, where=_place(error))
            await context.abort(grpc.StatusCode.INTERNAL, "exchange failed")
        finally:
            self.streams -= 1

    async def _request(self, requests: Requests) -> AsyncIterator[pb.ProcessingResponse]:
        exchange = RequestExchange(self.policy, time.monotonic, self._classified)
        async for message in requests:
            if message.HasField("request_body"):
                reply = exchange.body(message.request_body.body, message.request_body.end_of_stream)
            elif message.HasField("request_headers"):
                headers = message.request_headers
                reply = exchange.headers(header_map(headers.headers), headers.end_of_stream)
            else:  # trailers end a body that had no last part
                reply = exchange.body(b"", True)
            if reply is None:
                continue
            if isinstance(reply, Refuse):
                yield refuse_message(reply)
            else:
                for part in proceed_messages(reply):
                    yield part
            return

    async def _response(self, requests: Requests) -> AsyncIterator[pb.ProcessingResponse]:
        exchange: ResponseExchange | None = None
        async for message in requests:
            if message.HasField("response_headers"):
                exchange = self._answer(message.metadata_context)
                headers = message.response_headers
                wish = exchange.headers(header_map(headers.headers), headers.end_of_stream)
                if isinstance(wish, LetPass):
                    return  # safe here: nothing of the body has been sent to us yet
                if isinstance(wish, Refuse):
                    yield refuse_message(wish)
                    return
                yield response_headers_message(wish)
            elif message.HasField("response_body"):
                assert exchange is not None  # Envoy sends the headers first
                body = message.response_body
                yield amend_message(exchange.body(body.body, body.end_of_stream))
                if body.end_of_stream:
                    return

    def _answer(self, metadata: pb.Metadata) -> ResponseExchange:
        text, translation = metadata_text(metadata, "facts"), metadata_text(metadata, "asked")
        asked = decode_asked(translation) if translation else None
        return ResponseExchange(self.policy, decode(text) if text else None, asked, int(time.time()))

    async def access_logs(
        self, messages: AsyncIterable[pb.StreamAccessLogsMessage], context: Context
    ) -> pb.StreamAccessLogsResponse:
        """Envoy's log of finished requests. One bad entry must not cost the others their rows."""
        async for message in messages:
            for entry in message.http_logs.log_entry:
                try:
                    self._finished(entry)
                except Exception as error:
                    log.error("access_log_entry_failed", error=type(error).__name__, where=_place(error))
        return pb.StreamAccessLogsResponse()

    def _finished(self, entry: pb.HTTPAccessLogEntry) -> None:
        read = read_entry(entry)
        if read is None:
            return
        finished, facts = read
        row = settle(finished, facts, self.policy.catalog)
        self._row(row)
        if facts.model and not facts.error:
            self._report(row, finished.retry_after)

    def _report(self, row: LedgerRow, retry_after: float | None) -> None:
        """Tell the health table how the model did. A client that left says nothing about it."""
        health, now = self.policy.health, time.monotonic()
        if row.outcome == "failed" and (row.status >= 500 or row.status == 429):
            health.report(row.provider, row.model, False, now, retry_after if row.status == 429 else None)
        elif row.outcome in ("served", "failed"):
            health.report(row.provider, row.model, True, now)  # also a 4xx: it is there, and the client was wrong

    async def check(self, request: bytes, context: Context) -> bytes:
        return _SERVING if self.serving else _NOT_SERVING


def _place(error: BaseException) -> str:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return "" if trace is None else f"{trace.tb_frame.f_code.co_qualname}:{trace.tb_lineno}"
