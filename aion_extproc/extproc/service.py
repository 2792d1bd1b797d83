"""The gRPC edge: Envoy's streams in, the exchanges' replies out."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import structlog

from aion_extproc.accounting.facts import Facts, decode
from aion_extproc.accounting.row import AttemptRow, LedgerRow
from aion_extproc.accounting.settle import FailedAttempt, settle, settle_attempts
from aion_extproc.extproc import envoy_pb2 as pb
from aion_extproc.extproc.access_log import read_attempt, read_entry
from aion_extproc.extproc.asked import decode_asked
from aion_extproc.extproc.attempt_exchange import AttemptExchange
from aion_extproc.extproc.bus import Bus
from aion_extproc.extproc.chain import decode_chain
from aion_extproc.extproc.codec import (
    amend_message,
    attribute,
    header_map,
    metadata_text,
    proceed_messages,
    refuse_message,
    response_headers_message,
)
from aion_extproc.extproc.grpc_call import Call, Handler, Reply
from aion_extproc.extproc.grpc_connection import place
from aion_extproc.extproc.load import Load, Share
from aion_extproc.extproc.policy import Policy
from aion_extproc.extproc.recall import remember_answer
from aion_extproc.extproc.replies import LetPass, Proceed, Refuse
from aion_extproc.extproc.request_exchange import RequestExchange
from aion_extproc.extproc.response_exchange import ResponseExchange
from aion_extproc.extproc.sending import RETRIABLE
from aion_extproc.extproc.shared_health import SharedHealth
from aion_extproc.extproc.shared_sessions import share_sessions
from aion_extproc.routing.health import Observation

log = structlog.get_logger(__name__)

# A held answer comes in one message, and Envoy's buffer may be as large as the largest body allowed.
MESSAGE_LIMIT = 1 << 30
_MOST_FAILED = 10_000  # requests whose failed attempts are remembered until they end
_SERVING = b"\x08\x01"  # grpc.health.v1.HealthCheckResponse{status: SERVING}
_NOT_SERVING = b"\x08\x02"


class Service:
    """The three gRPC services of a worker. `row` takes the ledger rows of each finished request and must not block.

    `earlier`: the policies before this one, by generation, for what they have decided.
    """

    def __init__(
        self,
        policy: Policy,
        row: Callable[[LedgerRow | AttemptRow], None],
        classified: Callable[[float], None],
        bus: Bus | None = None,
        earlier: Mapping[int, Policy] = MappingProxyType({}),
    ) -> None:
        self.policy = policy
        self.logs: set[_Logs] = set()
        self._earlier = earlier
        self._health = SharedHealth(policy.health, bus)
        if bus is not None:
            share_sessions(policy.sessions, bus)
        self.serving = True
        self.load = Load(policy.worker_open_requests, policy.worker_open_bytes)
        self.classified = classified
        self._row = row
        self._failed: dict[str, list[FailedAttempt]] = {}  # of requests that have not ended, by their id

    def handlers(self) -> Mapping[str, Handler]:
        """By the path of the method."""
        return {
            "/envoy.service.ext_proc.v3.ExternalProcessor/Process": self._process,
            "/envoy.service.accesslog.v3.AccessLogService/StreamAccessLogs": lambda reply, _: _Logs(self, reply),
            "/grpc.health.v1.Health/Check": lambda reply, _: _Check(self, reply),
        }

    def _process(self, reply: Reply, headers: Mapping[str, str]) -> Call:
        return _PHASES[headers.get("x-aion-phase", "request")](self, reply)

    def answer(self, metadata: pb.Metadata) -> ResponseExchange:
        text, translation = metadata_text(metadata, "facts"), metadata_text(metadata, "asked")
        asked = decode_asked(translation) if translation else None
        facts = decode(text) if text else Facts()
        return ResponseExchange(self._policy_of(facts), facts, asked, int(time.time()))

    def attempt(self, metadata: pb.Metadata, number: int) -> AttemptExchange:
        facts, chain = decode(metadata_text(metadata, "facts")), decode_chain(metadata_text(metadata, "chain"))
        return AttemptExchange(self._policy_of(facts), facts, chain, number)

    def leave(self) -> None:
        """Say that we take no more, and send Envoy's logs to others."""
        self.serving = False
        for logs in list(self.logs):
            logs.finish()

    def _policy_of(self, facts: Facts) -> Policy:
        """What decided it, if that is known still."""
        return self._earlier.get(facts.generation, self.policy)

    def finished(self, entry: pb.HTTPAccessLogEntry) -> None:
        attempt = read_attempt(entry)
        if attempt is not None:
            self._failed.setdefault(attempt.request_id, []).append(attempt)
            if len(self._failed) > _MOST_FAILED:
                del self._failed[next(iter(self._failed))]
            return
        read = read_entry(entry)
        if read is None:
            return
        finished, facts = read
        # The last attempt is told by the request's own row.
        earlier = self._failed.pop(finished.request_id, [])[: max(0, finished.attempts - 1)]
        if earlier:
            self._settle_attempts(earlier, facts, metadata_text(entry.common_properties.metadata, "chain"))
        row = settle(finished, facts, self._policy_of(facts).catalog)
        self._row(row)
        if facts.model and not facts.error:
            self._report(row, finished.retry_after)
            remember_answer(self.policy, facts.session, facts.cache_ttl, row, time.monotonic())

    def _settle_attempts(self, failed: Sequence[FailedAttempt], facts: Facts, chain: str) -> None:
        models = [(step.provider, step.model) for step in decode_chain(chain).steps] if chain else []
        models = models or [(facts.provider, facts.model)]
        rows = settle_attempts(failed, models, facts, self._policy_of(facts).catalog)
        for attempt, row in zip(failed, rows, strict=True):
            self._row(row)
            self.observed(Observation(row.provider, row.model, False, row.error, attempt.retry_after))

    def _report(self, row: LedgerRow, retry_after: float | None) -> None:
        """How the model did that answered, or that was the last to fail. A client that left says nothing about it."""
        broke = row.outcome == "cut" and row.error not in ("client_gone", "idle_timeout")
        if broke or (row.outcome == "failed" and (row.status >= 500 or row.status in RETRIABLE)):
            self.observed(Observation(row.provider, row.model, False, row.error, retry_after))
        elif row.outcome in ("served", "failed"):  # also a 400: it is there, and the client was wrong
            # JSON takes as long as the answer is; what came before a later attempt was not its fault.
            measured = row.outcome == "served" and row.stream and row.attempts == 1
            first = row.ttft_ms if measured else None
            seconds = None if first is None else first / 1000
            self.observed(Observation(row.provider, row.model, True, first_byte=seconds))

    def observed(self, observation: Observation) -> None:
        """How an attempt ended, for the health that routing goes by, here and in the other workers."""
        self._health.observed(observation)


class _Request:
    """The request phase of one exchange. Its end means that Envoy goes on by itself."""

    def __init__(self, service: Service, reply: Reply) -> None:
        self._exchange = RequestExchange(service.policy, time.monotonic, service.classified)
        self._reply = reply
        self._load = service.load
        self._share = Share(service.load)

    def message(self, data: bytes) -> None:
        try:
            decided = self._decided(data)
        except BaseException:
            self._share.end()
            raise
        if decided is not None:
            self._share.end()
            _answer(self._reply, decided)

    def _decided(self, data: bytes) -> Proceed | Refuse | None:
        message = pb.ProcessingRequest.FromString(data)
        decided: Proceed | Refuse | None
        if message.HasField("request_body"):
            self._share.add(len(message.request_body.body))
            decided = self._exchange.body(message.request_body.body, message.request_body.end_of_stream)
        elif message.HasField("request_headers"):
            headers = message.request_headers
            decided = self._exchange.headers(header_map(headers.headers), headers.end_of_stream)
        else:  # trailers end a body that had no last part
            decided = self._exchange.body(b"", True)
        return self._exchange.overloaded() if decided is None and self._load.over else decided

    def half_closed(self) -> None:
        self._share.end()
        self._reply.end()

    def lost(self) -> None:
        self._share.end()


class _Attempt:
    """A later attempt of a chain, on its way to a fallback cluster."""

    def __init__(self, service: Service, reply: Reply) -> None:
        self._service = service
        self._exchange: AttemptExchange | None = None
        self._reply = reply

    def message(self, data: bytes) -> None:
        message = pb.ProcessingRequest.FromString(data)
        decided: Proceed | Refuse | None
        if message.HasField("request_headers"):
            headers = message.request_headers
            number = int(attribute(message, "upstream.request_attempt_count"))
            self._exchange = self._service.attempt(message.metadata_context, number)
            decided = self._exchange.headers(header_map(headers.headers), headers.end_of_stream)
        else:
            assert self._exchange is not None  # Envoy sends the headers first
            body = message.request_body  # trailers end a body that had no last part
            decided = self._exchange.body(body.body, body.end_of_stream or message.HasField("request_trailers"))
        if decided is not None:
            _answer(self._reply, decided)

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


_PHASES: Mapping[str, Callable[[Service, Reply], Call]] = {
    "request": _Request,
    "attempt": _Attempt,
    "response": _Answer,
}


def _answer(reply: Reply, decided: Proceed | Refuse) -> None:
    """What the request phase has come to, which is its end."""
    if isinstance(decided, Refuse):
        reply.send(refuse_message(decided).SerializeToString())
    else:
        for part in proceed_messages(decided):
            reply.send(part.SerializeToString())
    reply.end()


class _Logs:
    """Envoy's log of finished requests."""

    def __init__(self, service: Service, reply: Reply) -> None:
        self._service = service
        self._reply = reply
        service.logs.add(self)

    def finish(self) -> None:
        """Envoy opens another log, to another worker; what it has sent into this one is still taken."""
        self._reply.finish()

    def message(self, data: bytes) -> None:
        for entry in pb.StreamAccessLogsMessage.FromString(data).http_logs.log_entry:
            try:
                self._service.finished(entry)
            except Exception as error:  # one bad entry must not cost the others their rows
                log.error("access_log_entry_failed", error=type(error).__name__, where=place(error))

    def half_closed(self) -> None:
        self._service.logs.discard(self)
        self._reply.send(b"")
        self._reply.end()

    def lost(self) -> None:
        self._service.logs.discard(self)


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
