"""The response phase: used only where the answer's own text is needed. No I/O; the time is handed in.

A JSON answer is held until it is whole: to be translated, and so that its exact cost can stand in a header. A stream is
translated chunk by chunk, or only watched where Envoy does not count its tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress

from aion_extproc.accounting.cost import cost_nano, usd
from aion_extproc.accounting.facts import Facts, encode_usage
from aion_extproc.accounting.usage import Usage
from aion_extproc.extproc.outgoing import UNCOUNTED
from aion_extproc.extproc.policy import Policy
from aion_extproc.extproc.replies import Amend, Headers, LetPass, WantWhole, Watch
from aion_extproc.wire.answer import StreamUsage, TailUsage, answer_usage
from aion_extproc.wire.compression import BadCompression, Decompressor, decompressor
from aion_extproc.wire.endpoint import Endpoint
from aion_extproc.wire.errors import RequestError, error_body
from aion_extproc.wire.eventstream import EventStreamToSse
from aion_extproc.wire.format import Format
from aion_extproc.wire.translate.answer import AnswerError, StreamTranslator
from aion_extproc.wire.translate.answer_to_chat import answer_to_chat
from aion_extproc.wire.translate.answer_to_messages import answer_to_messages
from aion_extproc.wire.translate.errors import upstream_error
from aion_extproc.wire.translate.stream_to_chat import ChatStream
from aion_extproc.wire.translate.stream_to_messages import MessagesStream
from aion_extproc.wire.translate.target import Asked

# A larger answer is not held: it flows on, and its header keeps the estimate.
_LARGEST_HELD = 32 << 20
_STREAM = "text/event-stream"
_JSON: Headers = (("content-type", "application/json"),)
_OF_THE_ORIGINAL = ("content-length", "content-encoding")  # headers that are not true of a translation


class ResponseExchange:
    """One answer. `facts`: what the request phase left in the metadata; None when nothing of it is there.

    `asked`: set where the client could not read the answer as it comes. `now`: UTC seconds since 1970.
    """

    def __init__(
        self, policy: Policy, facts: Facts | None, asked: Asked | None = None, now: int = 0
    ) -> None:
        self._policy = policy
        self._facts = facts or Facts()
        self._asked = asked
        self._request_id = asked.request_id if asked is not None else ""
        self._now = now
        self._status = 0
        self._content_type = ""
        self._usage: StreamUsage | TailUsage | None = None
        self._frames: EventStreamToSse | None = None
        self._translator: StreamTranslator | None = None
        self._unpack: Decompressor | None = None
        self._cannot_unpack = ""
        self._told: tuple[Usage | None, bool] = (None, False)

    def headers(self, headers: Mapping[str, str], end_of_stream: bool) -> LetPass | WantWhole | Watch | Amend:
        status = headers.get(":status", "")
        self._status = int(status) if status.isdecimal() else 502
        self._content_type = headers.get("content-type", "")
        try:
            self._unpack = decompressor(headers.get("content-encoding", ""))
        except BadCompression as error:
            self._cannot_unpack = str(error)
        if not self._facts.model:
            return LetPass()
        if self._asked is not None:
            return self._empty() if end_of_stream else self._to_be_translated(self._asked)
        if end_of_stream:
            return LetPass()
        if not 200 <= self._status < 300:
            return LetPass()
        if self._content_type.startswith(_STREAM):
            if self._policy.usage == "envoy" and self._facts.endpoint not in UNCOUNTED:
                return LetPass()
            self._usage = StreamUsage(Format(self._facts.format), self._facts.service_tier)
            return Watch()
        if "json" not in self._content_type:
            return LetPass()
        if not self._policy.exact_json_cost and self._policy.usage == "envoy" and self._facts.endpoint not in UNCOUNTED:
            return LetPass()  # shown to us for another attempt's sake
        length = headers.get("content-length", "")
        if self._facts.endpoint == Endpoint.EMBEDDINGS and (not length.isdecimal() or int(length) > _LARGEST_HELD):
            self._usage = TailUsage(Format(self._facts.format))
            return Watch()
        return LetPass() if length.isdecimal() and int(length) > _LARGEST_HELD else WantWhole()

    def _empty(self) -> Amend:
        """An answer that ended with its headers."""
        status = self._status if self._status >= 400 else 502
        body = upstream_error(status, b"", self._content_type, Format(self._facts.format), self._request_id)
        return self._error(body, self._status, "" if self._status >= 400 else "bad_answer")

    def _to_be_translated(self, asked: Asked) -> LetPass | WantWhole | Watch:
        facts = self._facts
        framing = self._policy.providers[facts.provider].kind.envelope.framing
        wire_type = "application/vnd.amazon.eventstream" if framing == "eventstream" else _STREAM
        is_stream = facts.stream and 200 <= self._status < 300 and self._content_type.startswith(wire_type)
        if not is_stream or self._cannot_unpack:
            return WantWhole()
        if framing == "eventstream":
            self._frames = EventStreamToSse()
        if Endpoint(facts.endpoint).format is not Format(facts.format):
            to_chat = facts.format == Format.OPENAI
            self._translator = ChatStream(asked, created=self._now) if to_chat else MessagesStream(asked)
        elif self._frames is None and self._policy.usage == "envoy":
            return LetPass()  # only its errors would have been in another shape
        else:
            self._usage = StreamUsage(Format(facts.format), facts.service_tier)
            if self._frames is None:
                return Watch()  # its bytes are the client's as they are
        return Watch((("content-type", f"{_STREAM}; charset=utf-8"),), _OF_THE_ORIGINAL)

    def body(self, data: bytes, end_of_stream: bool) -> Amend:
        """The whole of a held answer, or the next chunk of a watched one."""
        if self._translator is not None or self._usage is not None:
            return self._chunk(data, end_of_stream)
        if self._asked is not None:
            return self._whole(data, self._asked)
        try:
            return self._priced(self._plain(data), None)
        except BadCompression:
            return Amend()  # the client reads it as it is; only its counts were looked for

    def _chunk(self, data: bytes, end_of_stream: bool) -> Amend:
        out: bytes | None = None
        try:
            data = self._plain(data)
        except BadCompression:
            data, end_of_stream = b"", True  # nothing that follows can be read
        if self._frames is not None:
            data = self._frames.feed(data)
            if end_of_stream:
                data += self._frames.finish()
            out = data
        if self._translator is not None:
            out = self._translator.feed(data)
            if end_of_stream:
                out += self._translator.finish()
            counts = self._translator.usage, self._translator.complete
        else:
            assert self._usage is not None
            self._usage.feed(data)
            counts = self._usage.usage, self._usage.complete
        metadata = {}
        usage, complete = counts
        if usage is not None and counts != self._told:
            self._told = counts
            tier = self._usage.service_tier if isinstance(self._usage, StreamUsage) else None
            metadata["usage"] = encode_usage(usage, complete=complete, service_tier=tier)
        if self._translator is not None and self._translator.error:
            metadata["stream_error"] = self._translator.error
        return Amend(body=out, metadata=metadata)

    def _plain(self, data: bytes) -> bytes:
        """What was sent, as it was before it was compressed. BadCompression: that cannot be known."""
        if self._cannot_unpack:
            raise BadCompression(self._cannot_unpack)
        return data if self._unpack is None else self._unpack.feed(data)

    def _whole(self, data: bytes, asked: Asked) -> Amend:
        client = Format(self._facts.format)
        if not 200 <= self._status < 300:
            with suppress(BadCompression):
                data = self._plain(data)
            body = upstream_error(self._status, data, self._content_type, client, self._request_id)
            return self._error(body, self._status)
        try:
            data = self._plain(data)
            if self._facts.stream:
                kind = self._content_type.split(";")[0] or "no content type"
                message = f"The model provider answered a request for a stream with {kind}."
                raise AnswerError("bad_answer", message)
            if Endpoint(self._facts.endpoint).format is client:
                if "json" not in self._content_type:
                    kind = self._content_type.split(";")[0] or "no content type"
                    raise AnswerError("bad_answer", f"The model provider answered with {kind}.")
                return self._priced(data, None)
            if client is Format.OPENAI:
                return self._priced(data, answer_to_chat(data, asked, created=self._now))
            return self._priced(data, answer_to_messages(data, asked))
        except BadCompression as problem:
            error = AnswerError("bad_answer", f"The model provider's answer {problem}.")
        except AnswerError as problem:
            error = problem
        refusal = RequestError(error.code, error.message, status=error.status)
        return self._error(error_body(refusal, client, self._request_id), error.status, error.code)

    def _error(self, body: bytes, status: int, code: str = "") -> Amend:
        # A redirection would lead the client, with its key for us, past us.
        shown = status if status >= 400 else 502
        return Amend(
            body=body,
            set_headers=(*_JSON, (":status", str(shown))),
            remove_headers=_OF_THE_ORIGINAL,
            metadata={"stream_error": code} if code else {},
        )

    def _priced(self, data: bytes, translated: bytes | None) -> Amend:
        reported = answer_usage(data, Endpoint(self._facts.endpoint).format, self._facts.service_tier)
        headers, removed = (_JSON, _OF_THE_ORIGINAL) if translated is not None else ((), ())
        if reported is None:
            return Amend(headers, removed, body=translated)
        usage, served = reported
        metadata = {"usage": encode_usage(usage, complete=True, service_tier=served)}
        tier = self._facts.service_tier if served is None else served
        return Amend(headers + self._cost_headers(self._facts, usage, tier), removed, metadata, translated)

    def _cost_headers(self, facts: Facts, usage: Usage, service_tier: str) -> Headers:
        catalog = self._policy.catalog
        model = catalog.model(facts.provider, facts.model)
        prices = model.prices_at(service_tier) if model is not None else None
        if prices is None:
            return ()
        cost = cost_nano(prices, usage)
        dearest = catalog.dearest(usage)
        saved = max(0, dearest[1] - cost) if dearest else 0
        return (("x-aion-cost-usd", usd(cost)), ("x-aion-savings-usd", usd(saved)))
