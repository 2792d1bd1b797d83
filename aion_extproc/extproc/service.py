"""The gRPC edge: Envoy's streams in, the exchanges' replies out."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

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
from aion_extproc.extproc.grpc_call import Call, Handler, Reply
from aion_extproc.extproc.grpc_connection import place
from aion_extproc.extproc.policy import Policy
from aion_extproc.extproc.replies import LetPass, Proceed, Refuse
from aion_extproc.extproc.request_exchange import RequestExchange
from aion_extproc.extproc.response_exchange import ResponseExchange

log = structlog.get_logger(__name__)

# A held answer comes in one message, and Envoy's buffer may be as large as the largest body allowed.
MESSAGE_LIMIT = 1 << 30
_SERVING = b"\x08\x01"  # grpc.health.v1.HealthCheckResponse{status: SERVING}
_NOT_SERVING = b"\x08\x02"


class Service:
    """The three gRPC services of a worker. `row` takes each finished request's ledger row and must not block."""

    def __init__(
        self, policy: Policy, row: Callable[[LedgerRow], None], classified: Callable[[float], None]
    ) -> None:
        self.policy = policy
        self.serving = True
        self.classified = classified
        self._row = row

    def handlers(self) -> Mapping[str, Handler]:
        """By the path of the method."""
        return {
            "/envoy.service.ext_proc.v3.ExternalProcessor/Process": self._process,
            "/envoy.service.accesslog.v3.AccessLogService/StreamAccessLogs": lambda reply, _: _Logs(self, reply),
            "/grpc.health.v1.Health/Check": lambda reply, _: _Check(self, reply),
        }

    def _process(self, reply: Reply, headers: Mapping[str, str]) -> Call:
        return _Answer(self, reply) if headers.get("x-aion-phase") == "response" else _Request(self, reply)

    def answer(self, metadata: pb.Metadata) -> ResponseExchange:
        text, translation = metadata_text(metadata, "facts"), metadata_text(metadata, "asked")
        asked = decode_asked(translation) if translation else None
        return ResponseExchange(self.policy, decode(text) if text else None, asked, int(time.time()))

    def finished(self, entry: pb.HTTPAccessLogEntry) -> None:
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


class _Request:
    """The request phase of one exchange. Its end means that Envoy goes on by itself."""

    def __init__(self, service: Service, reply: Reply) -> None:
        self._exchange = RequestExchange(service.policy, time.monotonic, service.classified)
        self._reply = reply

    def message(self, data: bytes) -> None:
        message = pb.ProcessingRequest.FromString(data)
        decided: Proceed | Refuse | None
        if message.HasField("request_body"):
            decided = self._exchange.body(message.request_body.body, message.request_body.end_of_stream)
        elif message.HasField("request_headers"):
            headers = message.request_headers
            decided = self._exchange.headers(header_map(headers.headers), headers.end_of_stream)
        else:  # trailers end a body that had no last part
            decided = self._exchange.body(b"", True)
        if decided is None:
            return
        if isinstance(decided, Refuse):
            self._reply.send(refuse_message(decided).SerializeToString())
        else:
            for part in proceed_messages(decided):
                self._reply.send(part.SerializeToString())
        self._reply.end()

    def half_closed(self) -> None:
        self._reply.end()

    def lost(self) -> None:
        pass


class _Answer:
    """The response phase of one exchange."""

    def __init__(self, service: Service, reply: Reply) -> None:
        self._service = service
        self._exchange: ResponseExchange | None = None
        self._reply = reply

    def message(self, data: bytes) -> None:
        message = pb.ProcessingRequest.FromString(data)
        if message.HasField("response_headers"):
            self._exchange = self._service.answer(message.metadata_context)
            headers = message.response_headers
            wish = self._exchange.headers(header_map(headers.headers), headers.end_of_stream)
            if isinstance(wish, LetPass):
                self._reply.end()  # safe here: nothing of the body has been sent to us yet
            elif isinstance(wish, Refuse):
                self._reply.send(refuse_message(wish).SerializeToString())
                self._reply.end()
            else:
                self._reply.send(response_headers_message(wish).SerializeToString())
        elif message.HasField("response_body"):
            assert self._exchange is not None  # Envoy sends the headers first
            body = message.response_body
            self._reply.send(amend_message(self._exchange.body(body.body, body.end_of_stream)).SerializeToString())
            if body.end_of_stream:
                self._reply.end()

    def half_closed(self) -> None:
        self._reply.end()

    def lost(self) -> None:
        pass


class _Logs:
    """Envoy's log of finished requests."""

    def __init__(self, service: Service, reply: Reply) -> None:
        self._service = service
        self._reply = reply

    def message(self, data: bytes) -> None:
        for entry in pb.StreamAccessLogsMessage.FromString(data).http_logs.log_entry:
            try:
                self._service.finished(entry)
            except Exception as error:  # one bad entry must not cost the others their rows
                log.error("access_log_entry_failed", error=type(error).__name__, where=place(error))

    def half_closed(self) -> None:
        self._reply.send(b"")
        self._reply.end()

    def lost(self) -> None:
        pass


class _Check:
    """gRPC's health check: whether this worker takes requests."""

    def __init__(self, service: Service, reply: Reply) -> None:
        self._service = service
        self._reply = reply

    def message(self, data: bytes) -> None:
        self._reply.send(_SERVING if self._service.serving else _NOT_SERVING)
        self._reply.end()

    def half_closed(self) -> None:
        self._reply.end()

    def lost(self) -> None:
        pass
