"""Sends requests through the gateway's own request phase and settles them: classification, sessions, routing, prices.

Only three things are not the gateway's: the clock, which the caller moves; the provider, which answers at once with so
many tokens; and the provider's prompt cache (prompt_cache.py)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import ceil

from aion_extproc.accounting.cost import cost_nano
from aion_extproc.accounting.facts import decode
from aion_extproc.accounting.settle import Finished, settle
from aion_extproc.accounting.usage import Usage
from aion_extproc.bench.prompt_cache import PromptCaches
from aion_extproc.catalog.catalog import Catalog
from aion_extproc.classify.classifier import Classifier
from aion_extproc.config.access import Auth
from aion_extproc.config.schema import Settings
from aion_extproc.extproc.lessons import learn
from aion_extproc.extproc.policy import Policy, make_policy
from aion_extproc.extproc.replies import Proceed, Refuse
from aion_extproc.extproc.request_exchange import RequestExchange
from aion_extproc.wire.endpoint import Endpoint
from aion_extproc.wire.format import Format
from aion_extproc.wire.request import parse

STRONG = "aion-escalate"
AUTO = "aion-auto"
PATHS: Mapping[Format, str] = {Format.OPENAI: "/v1/chat/completions", Format.ANTHROPIC: "/v1/messages"}
_UTC = 1_795_305_600.0  # some day: nothing here goes by the date
TOKENS_PER_SECOND = 60  # that a model writes, for the clock only


class BenchError(Exception):
    """The configuration cannot do it; the message is for its author."""


@dataclass(frozen=True, slots=True)
class Played:
    """A request that was answered. Money in nano-dollars."""

    wanted: int  # the tier of its score; 3 where the strong model was asked for
    tier: int  # of the model that served it
    provider: str
    model: str
    usage: Usage
    cost_nano: int  # prompt cache counted
    uncached_nano: int  # all input at its plain price
    reason: str


def bench_policy(settings: Settings, catalog: Catalog, classifier: Classifier, *, sessions: bool) -> Policy:
    """As a worker makes it, for a caller who may do everything. Without `sessions` every request is decided by itself.
    There is one attempt: the simulated providers do not fail."""
    routing = settings.routing
    if not sessions:
        off = {"hysteresis": 0.0, "cache_lifetime": 0.0, "regeneration": 0.0}
        routing = routing.model_copy(update={"sessions": routing.sessions.model_copy(update=off)})
    open_to_all = settings.model_copy(update={"auth": Auth(), "routing": routing})
    policy = make_policy(open_to_all, catalog, classifier)
    return replace(policy, model_limits={}, fallback_enabled=False)


class Player:
    """One run of requests, in order, under one policy."""

    def __init__(self, policy: Policy, format: Format) -> None:
        self.now = 1_000.0  # seconds
        self._policy = policy
        self._format = format
        self._caches = PromptCaches()
        self._sent = 0

    def play(self, body: bytes, answer_tokens: int) -> Played:
        """Have the request answered, and remember it as the gateway does. BenchError: it was refused, or the model has
        no price."""
        policy, catalog = self._policy, self._policy.catalog
        self._sent += 1
        request_id = f"bench-{self._sent}"
        reply = self._exchange(request_id, body)
        facts = decode(reply.metadata["facts"])
        model = catalog.model(facts.provider, facts.model)
        assert model is not None
        if model.prices is None:
            raise BenchError(f"the price of {model.provider}/{model.id} is unknown, so nothing can be compared")
        sent = parse(reply.body, Endpoint(facts.endpoint))
        usage = self._caches.served(sent, model, answer_tokens, self.now)
        self.now += answer_tokens / TOKENS_PER_SECOND
        finished = Finished(
            request_id=request_id,
            at_ms=ceil(self.now * 1000),
            path=facts.path,
            status=200,
            latency_ms=0.0,
            ttft_ms=None,
            request_bytes=len(body),
            response_bytes=0,
            attempts=1,
            upstream_answered=True,
            client_gone=False,
            whole=True,
            error="",
            usage=usage,
            usage_complete=True,
        )
        row = settle(finished, facts, catalog)
        learn(policy, row, facts, self.now)
        assert row.cost_nano is not None
        plain = cost_nano(model.prices, Usage(usage.input_tokens, usage.output_tokens))
        wanted = 3 if facts.score is None else policy.thresholds.tier(facts.score)
        return Played(wanted, facts.tier, facts.provider, facts.model, usage, row.cost_nano, plain, facts.reason)

    def _exchange(self, request_id: str, body: bytes) -> Proceed:
        exchange = RequestExchange(self._policy, lambda: self.now, lambda: _UTC, lambda seconds: None)
        headers = {
            ":method": "POST",
            ":path": PATHS[self._format],
            ":authority": "localhost",
            "x-request-id": request_id,
        }
        reply = exchange.headers(headers, False) or exchange.body(body, True)
        if isinstance(reply, Refuse):
            raise BenchError(f"the gateway refuses the request: {reply.body.decode('utf-8', 'replace')}")
        assert isinstance(reply, Proceed)
        return reply
