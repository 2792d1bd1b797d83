"""The gRPC edge: Envoy's streams in, the exchanges' replies out."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from aion_extproc.accounting.facts import Facts, decode
from aion_extproc.extproc import envoy_pb2 as pb
from aion_extproc.extproc.asked import decode_asked
from aion_extproc.extproc.attempt_exchange import AttemptExchange
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
from aion_extproc.extproc.failed_attempts import Models
from aion_extproc.extproc.grpc_call import Call, Handler, Reply
from aion_extproc.extproc.journal import Journal
from aion_extproc.extproc.load import Load, Share
from aion_extproc.extproc.log_sink import LogSink
from aion_extproc.extproc.logs import HEALTH_METHOD, LOGS_METHOD, Check, Logs
from aion_extproc.extproc.policy import Policies
from aion_extproc.extproc.replies import LetPass, Proceed, Refuse
from aion_extproc.extproc.request_exchange import RequestExchange
from aion_extproc.extproc.response_exchange import ResponseExchange
from aion_extproc.gateway.spec import SECOND_HEADER

# A held answer comes in one message, and Envoy's buffer may be as large as the largest body allowed.
MESSAGE_LIMIT = 1 << 30


class Service:
    """The gRPC services of a worker. `classified` is told how long a classification took, in seconds; `failed`, that
    these attempts of a request have failed.

    Logs go to `sink`; those that go to another process first, and are sent here in case that one dies, to `journal`.
    """

    def __init__(
        self,
        policies: Policies,
        classified: Callable[[float], None],
        failed: Callable[[str, Models], None],
        sink: LogSink,
        journal: Journal,
    ) -> None:
        self.policies = policies
        self.serving = True
        self.load = Load(policies.newest.worker_open_requests, policies.newest.worker_open_bytes)
        self.classified = classified
        self.failed = failed
        self._logs = Logs(sink.message)
        self._second_logs = Logs(lambda message: journal.keep(message, time.monotonic()))

    def handlers(self) -> Mapping[str, Handler]:
        """By the path of the method."""
        return {
            "/envoy.service.ext_proc.v3.ExternalProcessor/Process": self._process,
            LOGS_METHOD: self._log,
            HEALTH_METHOD: lambda reply, _: Check(reply, self.serving),
        }

    def _process(self, reply: Reply, headers: Mapping[str, str]) -> Call:
        return _PHASES[headers.get("x-aion-phase", "request")](self, reply)

    def _log(self, reply: Reply, headers: Mapping[str, str]) -> Call:
        return (self._second_logs if headers.get(SECOND_HEADER) else self._logs).open(reply, headers)

    def answer(self, metadata: pb.Metadata, *, marked: bool) -> ResponseExchange | None:
        """None: it is not for this filter. `marked`: in the one through which go the answers of a chain that must be
        translated, and no others; a request without a chain has a route that says so."""
        text, translation = metadata_text(metadata, "facts"), metadata_text(metadata, "asked")
        if marked != bool(translation and metadata_text(metadata, "chain")):
            return None
        asked = decode_asked(translation) if translation else None
        facts = decode(text) if text else Facts()
        return ResponseExchange(self.policies.of(facts), facts, asked, int(time.time()))

    def attempt(self, metadata: pb.Metadata, number: int) -> AttemptExchange:
        facts, chain = decode(metadata_text(metadata, "facts")), decode_chain(metadata_text(metadata, "chain"))
        return AttemptExchange(self.policies.of(facts), facts, chain, number)

    def leave(self) -> None:
        """Say that we take no more, and send Envoy's logs to others."""
        self.serving = False
        self._logs.leave()
        self._second_logs.leave()


class _Request:
    """The request phase of one exchange. Its end means that Envoy goes on by itself."""

    def __init__(self, service: Service, reply: Reply) -> None:
        self._exchange = RequestExchange(service.policies.current, time.monotonic, service.classified)
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
            headers = header_map(message.request_headers.headers)
            number = int(attribute(message, "upstream.request_attempt_count"))
            self._exchange = self._service.attempt(message.metadata_context, number)
            if self._exchange.failed:
                self._service.failed(headers.get("x-request-id", ""), self._exchange.failed)
            decided = self._exchange.headers(headers, message.request_headers.end_of_stream)
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

    _MARKED = False

    def __init__(self, service: Service, reply: Reply) -> None:
        self._service = service
        self._exchange: ResponseExchange | None = None
        self._reply = reply

    def message(self, data: bytes) -> None:
        message = pb.ProcessingRequest.FromString(data)
        if message.HasField("response_headers"):
            self._exchange = exchange = self._service.answer(message.metadata_context, marked=self._MARKED)
            headers = message.response_headers
            wish = exchange.headers(header_map(headers.headers), headers.end_of_stream) if exchange else LetPass()
            if isinstance(wish, LetPass):
                self._reply.end()  # safe here: nothing of the body has been sent to us yet
            else:
                self._reply.send(response_headers_message(wish).SerializeToString())
                if headers.end_of_stream:
                    self._reply.end()
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


class _MarkedAnswer(_Answer):
    """The same of a chain."""

    _MARKED = True


_PHASES: Mapping[str, Callable[[Service, Reply], Call]] = {
    "request": _Request,
    "attempt": _Attempt,
    "response": _Answer,
    "translate": _MarkedAnswer,
}


def _answer(reply: Reply, decided: Proceed | Refuse) -> None:
    """What the request phase has come to, which is its end."""
    if isinstance(decided, Refuse):
        reply.send(refuse_message(decided).SerializeToString())
    else:
        for part in proceed_messages(decided):
            reply.send(part.SerializeToString())
    reply.end()
