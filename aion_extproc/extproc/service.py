"""The gRPC edge: Envoy's streams in, the exchanges' replies out."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import structlog

from aion_extproc.accounting.facts import Facts, decode
from aion_extproc.accounting.holds import Verdict
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
from aion_extproc.extproc.fallback_answer import FALLBACK_KEY, Wish, by_fallback, decode_served
from aion_extproc.extproc.grpc_call import INTERNAL, Call, Handler, Reply
from aion_extproc.extproc.journal import Journal
from aion_extproc.extproc.load import Load, Share
from aion_extproc.extproc.log_sink import LogSink
from aion_extproc.extproc.logs import HEALTH_METHOD, LOGS_METHOD, Check, Logs
from aion_extproc.extproc.policy import Policies
from aion_extproc.extproc.replies import LetPass, Proceed, Refuse, Reserve
from aion_extproc.extproc.request_exchange import RequestExchange
from aion_extproc.extproc.response_exchange import ResponseExchange
from aion_extproc.gateway.spec import (
    ATTEMPT_HEADER,
    CHAIN_HEADER,
    ENDED_HEADER,
    FACTS_HEADER,
    FALLBACK_CLUSTER,
    SECOND_HEADER,
    SERVED_HEADER,
)
from aion_extproc.logs import place
from aion_extproc.stores.state import Failure, State

log = structlog.get_logger(__name__)

# A held answer comes in one message, and Envoy's buffer may be as large as the largest body allowed.
MESSAGE_LIMIT = 1 << 30


class Service:
    """The gRPC services of a worker. `classified` is told how long a classification took, in seconds; `failed`, that
    these attempts of a request have failed.

    `state` has budgets and limits, None where no configuration has any; `unanswered` is told why it did not answer and
    whether the request was sent all the same. Logs go to `sink`; those that go to another process first, and are sent
    here in case that one dies, to `journal`.
    """

    def __init__(
        self,
        policies: Policies,
        classified: Callable[[float], None],
        failed: Callable[[str, Models], None],
        sink: LogSink,
        journal: Journal,
        state: State | None = None,
        unanswered: Callable[[str, bool], None] = lambda reason, went_on: None,
    ) -> None:
        self.policies = policies
        self.state = state
        self.unanswered = unanswered
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

    def answer(self, facts: str, asked: str) -> ResponseExchange:
        """Both as they travel; "": there are none."""
        known = decode(facts) if facts else Facts()
        to_translate = decode_asked(asked) if asked else None
        return ResponseExchange(self.policies.of(known), known, to_translate, int(time.time()))

    def attempt(self, headers: Mapping[str, str]) -> AttemptExchange:
        """Of a request that came to the fallback listener."""
        facts, chain = decode(headers[FACTS_HEADER]), decode_chain(headers[CHAIN_HEADER])
        return AttemptExchange(self.policies.of(facts), facts, chain, int(headers[ATTEMPT_HEADER]))

    def leave(self) -> None:
        """Say that we take no more, and send Envoy's logs to others."""
        self.serving = False
        self._logs.leave()
        self._second_logs.leave()


class _Request:
    """The request phase of one exchange. Its end means that Envoy goes on by itself."""

    def __init__(self, service: Service, reply: Reply) -> None:
        self._service = service
        self._exchange = RequestExchange(service.policies.current, time.monotonic, time.time, service.classified)
        self._reply = reply
        self._load = service.load
        self._share = Share(service.load)
        self._asking = False  # the shared state, which answers later

    def message(self, data: bytes) -> None:
        try:
            self._go_on(self._decided(data))
        except BaseException:
            self._share.end()
            raise

    def _decided(self, data: bytes) -> Proceed | Refuse | Reserve | None:
        message = pb.ProcessingRequest.FromString(data)
        decided: Proceed | Refuse | Reserve | None
        if message.HasField("request_body"):
            self._share.add(len(message.request_body.body))
            decided = self._exchange.body(message.request_body.body, message.request_body.end_of_stream)
        elif message.HasField("request_headers"):
            headers = message.request_headers
            decided = self._exchange.headers(header_map(headers.headers), headers.end_of_stream)
        else:  # trailers end a body that had no last part
            decided = self._exchange.body(b"", True)
        return self._exchange.overloaded() if decided is None and self._load.over else decided

    def _go_on(self, decided: Proceed | Refuse | Reserve | None) -> None:
        if isinstance(decided, Reserve):
            assert self._service.state is not None  # whoever has a limit has a place where it is counted
            self._asking = True
            self._service.state.reserve(decided.hold, self._told)
        elif decided is not None:
            self._share.end()
            _answer(self._reply, decided)

    def _told(self, verdict: Verdict | Failure) -> None:
        """Maybe later, and then nobody above catches what goes wrong."""
        self._asking = False
        try:
            decided = self._exchange.reserved(verdict)
            if isinstance(verdict, str):
                self._service.unanswered(verdict, isinstance(decided, Proceed))
            self._go_on(decided)
        except Exception as error:
            self._share.end()
            log.error("call_failed", error=type(error).__name__, where=place(error))
            self._reply.end(INTERNAL, "the call failed")

    def half_closed(self) -> None:
        if not self._asking:
            self._share.end()
            self._reply.end()

    def lost(self) -> None:
        self._share.end()


class _Attempt:
    """An attempt that is written when it is made, in the fallback listener."""

    def __init__(self, service: Service, reply: Reply) -> None:
        self._service = service
        self._exchange: AttemptExchange | None = None
        self._reply = reply

    def message(self, data: bytes) -> None:
        message = pb.ProcessingRequest.FromString(data)
        decided: Proceed | Refuse | None
        if message.HasField("request_headers"):
            headers = header_map(message.request_headers.headers)
            self._exchange = self._service.attempt(headers)
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

    def __init__(self, service: Service, reply: Reply) -> None:
        self._service = service
        self._exchange: ResponseExchange | None = None
        self._reply = reply

    def message(self, data: bytes) -> None:
        message = pb.ProcessingRequest.FromString(data)
        if message.HasField("response_headers"):
            end_of_stream = message.response_headers.end_of_stream
            wish = self._wish(message, header_map(message.response_headers.headers), end_of_stream)
            if wish != LetPass():
                self._reply.send(response_headers_message(wish).SerializeToString())
            if end_of_stream or isinstance(wish, LetPass):
                self._reply.end()  # safe here: nothing of the body has been sent to us yet
        elif message.HasField("response_body"):
            assert self._exchange is not None  # Envoy sends the headers first
            body = message.response_body
            self._reply.send(amend_message(self._exchange.body(body.body, body.end_of_stream)).SerializeToString())
            if body.end_of_stream:
                self._reply.end()

    def _wish(self, message: pb.ProcessingRequest, headers: Mapping[str, str], end_of_stream: bool) -> Wish:
        metadata = message.metadata_context
        if metadata_text(metadata, FALLBACK_KEY):  # it has been seen to
            return LetPass()
        self._exchange = self._service.answer(metadata_text(metadata, "facts"), metadata_text(metadata, "asked"))
        return self._exchange.headers(headers, end_of_stream)

    def half_closed(self) -> None:
        self._reply.end()

    def lost(self) -> None:
        pass


class _FallbackAnswer(_Answer):
    """The same of an answer that comes by the fallback listener."""

    def _wish(self, message: pb.ProcessingRequest, headers: Mapping[str, str], end_of_stream: bool) -> Wish:
        if attribute(message, "xds.cluster_name") != FALLBACK_CLUSTER:  # a provider says so itself
            return LetPass(remove_headers=(SERVED_HEADER, ENDED_HEADER))
        served = decode_served(headers)
        self._exchange = self._service.answer(served.get("facts", ""), served.get("asked", ""))
        return by_fallback(self._exchange.headers(headers, end_of_stream), headers, served)


_PHASES: Mapping[str, Callable[[Service, Reply], Call]] = {
    "request": _Request,
    "attempt": _Attempt,
    "response": _Answer,
    "fallback": _FallbackAnswer,
}


def _answer(reply: Reply, decided: Proceed | Refuse) -> None:
    """What the request phase has come to, which is its end."""
    if isinstance(decided, Refuse):
        reply.send(refuse_message(decided).SerializeToString())
    else:
        for part in proceed_messages(decided):
            reply.send(part.SerializeToString())
    reply.end()
