"""The response phase: used only where the answer's own text is needed. No I/O.

A JSON answer is held until it is whole, so that its exact cost can stand in a header. A stream is only watched, and
only where Envoy does not count tokens itself (usage: ext_proc).
"""

from __future__ import annotations

from collections.abc import Mapping

from aion_extproc.accounting.cost import cost_nano, usd
from aion_extproc.accounting.facts import Facts, encode_usage
from aion_extproc.accounting.usage import Usage
from aion_extproc.extproc.policy import Policy
from aion_extproc.extproc.replies import Amend, LetPass, WantWhole, Watch
from aion_extproc.wire.answer import StreamUsage, answer_usage
from aion_extproc.wire.format import Format

# A larger answer is not held: it flows on, and its header keeps the estimate.
_LARGEST_HELD = 32 << 20


class ResponseExchange:
    """One answer. `facts`: what the request phase left in the metadata; None when nothing of it is there."""

    def __init__(self, policy: Policy, facts: Facts | None) -> None:
        self._policy = policy
        self._facts = facts
        self._stream: StreamUsage | None = None

    def headers(self, headers: Mapping[str, str], end_of_stream: bool) -> LetPass | WantWhole | Watch:
        facts = self._facts
        if facts is None or not facts.model or end_of_stream or not headers.get(":status", "").startswith("2"):
            return LetPass()
        content_type = headers.get("content-type", "")
        if content_type.startswith("text/event-stream"):
            if self._policy.usage == "envoy":
                return LetPass()
            self._stream = StreamUsage(Format(facts.format))
            return Watch()
        length = headers.get("content-length", "")
        if "json" not in content_type or (length.isdecimal() and int(length) > _LARGEST_HELD):
            return LetPass()
        return WantWhole()

    def body(self, data: bytes, end_of_stream: bool) -> Amend:
        """The whole of a held answer, or the next chunk of a watched one."""
        if self._stream is not None:
            if not self._stream.feed(data):
                return Amend()
            usage = self._stream.usage
            assert usage is not None
            return Amend(metadata={"usage": encode_usage(usage, complete=self._stream.complete)})
        assert self._facts is not None
        usage = answer_usage(data, Format(self._facts.format))
        if usage is None:
            return Amend()
        return Amend(self._cost_headers(self._facts, usage), {"usage": encode_usage(usage, complete=True)})

    def _cost_headers(self, facts: Facts, usage: Usage) -> tuple[tuple[str, str], ...]:
        catalog = self._policy.catalog
        models = catalog.resolve(facts.model).models
        prices = next((model.prices for model in models if model.provider == facts.provider), None)
        if prices is None:
            return ()
        cost = cost_nano(prices, usage)
        dearest = catalog.dearest(usage)
        saved = max(0, dearest[1] - cost) if dearest else 0
        return (("x-aion-cost-usd", usd(cost)), ("x-aion-savings-usd", usd(saved)))
