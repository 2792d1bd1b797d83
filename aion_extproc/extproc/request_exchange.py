"""The request phase: headers and body in, one reply out. No I/O; the clocks are handed in.

    AwaitHeaders ── headers ──▶ AwaitBody ── last of the body ──▶ Done
          │                         │ └── Reserve ──▶ AwaitVerdict ── granted ──▶ Done
          │                         │                    │  ▲ └── denied, another model may do: Reserve
          └───────── refused ───────┴────── refused ─────┴──┴─▶ Done

A refusal may come as soon as the headers tell; a decision needs the whole body. Who has a budget or limits is asked for
in the shared state before anything is sent.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace

import orjson

from aion_extproc.accounting.allowances import Denial, moment
from aion_extproc.accounting.facts import Facts, encode
from aion_extproc.accounting.holds import Hold, Verdict
from aion_extproc.accounting.settle import LONGEST_PATH
from aion_extproc.extproc.callers import ANYBODY, Caller, check_allowed, closed_by_tier
from aion_extproc.extproc.decided import decided_metadata
from aion_extproc.extproc.ended import DETAILS_PREFIX
from aion_extproc.extproc.outgoing import prepare, serving_endpoint
from aion_extproc.extproc.policy import Policy
from aion_extproc.extproc.recall import recall, remember_decision
from aion_extproc.extproc.replies import Proceed, Refuse, Reserve
from aion_extproc.extproc.reservation import (
    AUTO,
    Asking,
    denied_headers,
    hold_for,
    most_of,
    narrowed,
    with_rates,
)
from aion_extproc.extproc.sending import send, step_of
from aion_extproc.extproc.upstream_headers import listed
from aion_extproc.routing.decision import Decision, NoRoute, Wanted
from aion_extproc.routing.route import route
from aion_extproc.stores.state import Failure
from aion_extproc.wire.endpoint import Endpoint
from aion_extproc.wire.errors import RequestError, error_body
from aion_extproc.wire.format import Format
from aion_extproc.wire.reading import conversation, estimate_input_tokens
from aion_extproc.wire.request import Request, parse
from aion_extproc.wire.service_tier import asked_tier

_SUFFIXES = {
    "/chat/completions": Endpoint.CHAT,
    "/messages": Endpoint.MESSAGES,
    "/messages/count_tokens": Endpoint.COUNT_TOKENS,
    "/embeddings": Endpoint.EMBEDDINGS,
    "/completions": Endpoint.COMPLETIONS,
    "/responses": Endpoint.RESPONSES,
}
# With and without the /v1 that a base URL may lack.
_ENDPOINTS = {prefix + suffix: endpoint for prefix in ("/v1", "") for suffix, endpoint in _SUFFIXES.items()}
_KNOWN_PATHS = ", ".join(f"POST /v1{suffix}" for suffix in _SUFFIXES)
_MOST_TRIED = 4  # models that are asked whether they can take a request which the first one cannot
_TTL = re.compile(rb'"ttl"\s*+:\s*+"(5m|1h)"')
_CACHE_CONTROL = re.compile(rb'"cache_control"')
_LONGEST_REASON = 200


class RequestExchange:
    """One request. Call `headers`, then `body` until it replies (None: more is needed)."""

    def __init__(
        self,
        policy: Policy,
        clock: Callable[[], float],
        utc: Callable[[], float],
        classified: Callable[[float], None],
    ) -> None:
        self._policy = policy
        self._clock = clock  # seconds, monotonic
        self._utc = utc  # seconds since 1970
        self._classified = classified  # told how long a classification took, in seconds
        self._headers: Mapping[str, str] = {}
        self._began = 0.0  # UTC seconds: it counts on that day, however long its body takes
        self._endpoint = Endpoint.CHAT
        self._caller: Caller = ANYBODY
        self._parts: list[bytes] = []
        self._size = 0
        self._asking: Asking | None = None

    def headers(self, headers: Mapping[str, str], end_of_stream: bool) -> Refuse | None:
        """The request's headers, names in lower case."""
        self._headers = headers
        self._began = self._utc()
        try:
            self._check(headers)
            if end_of_stream:
                raise RequestError("missing_body", "The request has no body.")
        except RequestError as error:
            return self._refuse(error, retry_after=1 if error.status == 503 else None)
        return None

    def body(self, data: bytes, end_of_stream: bool) -> Proceed | Refuse | Reserve | None:
        """The next part of the body."""
        self._size += len(data)
        if self._size > self._policy.max_body_bytes:
            self._parts.clear()
            return self._refuse(self._too_large())
        self._parts.append(data)
        if not end_of_stream:
            return None
        raw = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        self._parts.clear()
        try:
            request = parse(raw, self._endpoint)
        except RequestError as error:
            return self._refuse(error)
        return self._decide(request)

    def reserved(self, verdict: Verdict | Failure) -> Proceed | Refuse | Reserve:
        """What the shared state says to the last `Reserve`, or why it says nothing."""
        asking = self._asking
        assert asking is not None
        assert asking.hold is not None
        assert asking.reply is not None
        if isinstance(verdict, str):
            if not self._goes_on(asking.hold):
                return self._unanswered(asking)
            self._remember(asking)
            return asking.reply
        if verdict.granted:
            self._remember(asking)
            return with_rates(asking.reply, asking.hold, verdict)
        found = narrowed(asking, self._caller, verdict)
        return self._route(asking) if found is None else self._denied(asking, found, verdict)

    def overloaded(self) -> Refuse:
        """Instead of going on: this worker has too much to do. The client may come again at once, to another one."""
        self._parts.clear()
        # Anthropic's SDK and Claude Code know 529, all others 503.
        status = 529 if self._endpoint.format is Format.ANTHROPIC else 503
        error = RequestError("overloaded", "The gateway has more requests than it can take.", status=status)
        return self._refuse(error, retry_after=1)

    def _check(self, headers: Mapping[str, str]) -> None:
        path = headers.get(":path", "").split("?", 1)[0]
        if headers.get("anthropic-version") or path.startswith("/v1/messages"):
            self._endpoint = Endpoint.MESSAGES  # for the shape of the error, should there be one
        endpoint = _ENDPOINTS.get(_normal(path))
        if endpoint is None:
            known = f"{_KNOWN_PATHS} and GET /v1/models"
            raise RequestError("unknown_path", f"There is nothing at {path[:100]}. Known are {known}.", status=404)
        self._endpoint = endpoint
        if headers.get(":method") != "POST":
            raise RequestError("method_not_allowed", f"{path[:100]} takes POST only.", status=405)
        self._authenticate(headers)
        encoding = headers.get("content-encoding", "identity")
        if encoding not in ("", "identity"):
            message = f"Bodies with content-encoding {encoding[:32]} are not read; send it uncompressed."
            raise RequestError("unsupported_encoding", message, status=415)
        length = headers.get("content-length", "")
        if length.isdecimal() and int(length) > self._policy.max_body_bytes:
            raise self._too_large()

    def _authenticate(self, headers: Mapping[str, str]) -> None:
        scheme, _, token = headers.get("authorization", "").partition(" ")
        key = token.strip() if scheme.lower() == "bearer" else headers.get("x-api-key", "")
        callers, now = self._policy.callers, self._utc()
        caller = callers.find(key, headers, now)
        if caller is None and "x-api-key" in headers:
            key = headers["x-api-key"]
            caller = callers.find(key, headers, now)
        if caller is None:
            if key and not callers.complete:
                raise RequestError("keys_unavailable", "The keys cannot be read at the moment.", status=503)
            hint = "is not known" if key else "is missing: send Authorization: Bearer <key> or x-api-key: <key>"
            raise RequestError("invalid_api_key", f"The API key {hint}.", status=401)
        self._caller = caller

    def _too_large(self) -> RequestError:
        limit = self._policy.max_body_bytes
        return RequestError("body_too_large", f"The request body is larger than {limit} bytes.", status=413)

    def _decide(self, request: Request) -> Proceed | Refuse | Reserve:
        policy = self._policy
        caller = closed_by_tier(self._caller, request, policy.catalog)
        if caller.forbidden or caller.unpriced:
            try:
                check_allowed(request, caller, policy.catalog)
            except RequestError as error:
                return self._refuse(error, request)
        tokens = estimate_input_tokens(request)
        classification = None
        if request.model == AUTO:
            start = self._clock()
            classification = policy.classifier.classify(conversation(request))
            self._classified(self._clock() - start)
        known = recall(policy, self._headers, request, caller, classification, self._clock())
        wanted = Wanted(
            request.model,
            request.endpoint,
            known.tier,
            tokens,
            request.max_tokens,
            excluded=caller.forbidden | caller.unpriced,
            why=known.why,
            warm=known.warm,
            most=most_of(request, tokens, policy) if caller.budgets else None,
        )
        return self._route(Asking(request, classification, tokens, known, wanted))

    def _route(self, asking: Asking) -> Proceed | Refuse | Reserve:
        policy, request = self._policy, asking.request
        first: RequestError | None = None
        for _ in range(_MOST_TRIED):
            decision = route(
                policy.tables,
                asking.wanted,
                policy.health,
                self._clock(),
                policy.strategy,
                policy.fallback_enabled,
                policy.prefer_native,
            )
            if isinstance(decision, NoRoute):
                break
            try:
                reply = self._proceed(asking, decision)
            except RequestError as error:
                # It cannot be said in this model's format; perhaps another model of those that would do speaks the
                # client's own.
                first = first or error
                model, wanted = decision.model, asking.wanted
                asking.wanted = replace(wanted, excluded=wanted.excluded | {(model.provider, model.id)})
            else:
                return self._sent(asking, decision, reply)
        if asking.denied is not None:
            return self._denied(asking, asking.denied)
        if first is not None:
            return self._refuse(first, request)
        assert isinstance(decision, NoRoute)
        param = "model" if decision.status == 404 else None
        refusal = RequestError(decision.code, _sentence(decision.message), status=decision.status, param=param)
        return self._refuse(refusal, request, decision.retry_after)

    def _sent(self, asking: Asking, decision: Decision, reply: Proceed | Refuse) -> Proceed | Refuse | Reserve:
        """The reply, or what must be held before it is given."""
        asking.decision = decision
        if isinstance(reply, Proceed) and (self._caller.limited or self._policy.model_limits):
            asking.when = moment(self._began, self._utc())
            request_id = self._headers.get("x-request-id", "")
            hold = hold_for(self._policy, self._caller, asking, decision, request_id, asking.when)
            if hold is not None:
                asking.reply, asking.hold, self._asking = reply, hold, asking
                return Reserve(hold)
        self._remember(asking)
        return reply

    def _remember(self, asking: Asking) -> None:
        assert asking.decision is not None
        model, now = asking.decision.model, self._clock()
        self._policy.health.begin(model.provider, model.id, now)
        remember_decision(self._policy, asking.known, model, asking.tokens, now)

    def _goes_on(self, hold: Hold) -> bool:
        policy = self._policy
        return (policy.budgets_fail_open or not any(one.amount_nano for one in hold.budgets)) and (
            policy.limits_fail_open or not (hold.buckets or hold.slots)
        )

    def _unanswered(self, asking: Asking) -> Refuse:
        message = "Nobody can say at the moment whether your budget or limit allows this request."
        return self._refuse(RequestError("limits_unavailable", message, status=503), asking.request, retry_after=1)

    def _denied(self, asking: Asking, found: Denial, verdict: Verdict | None = None) -> Refuse:
        code = "budget_exceeded" if found.kind == "budget" else "rate_limit_exceeded"
        error = RequestError(code, found.message, status=429)
        refusal = self._refuse(error, asking.request, denied=found.denied)
        kept = tuple(header for header in refusal.headers if header[0] == "content-type")
        return replace(refusal, headers=(*kept, *denied_headers(found, asking.hold, verdict)))

    def _proceed(self, asking: Asking, decision: Decision) -> Proceed | Refuse:
        policy, model = self._policy, decision.model
        request, classification, tokens = asking.request, asking.classification, asking.tokens
        providers = self._caller.providers or policy.providers
        provider = providers[model.provider]
        endpoint = serving_endpoint(request.endpoint, provider)
        reason = decision.reason if classification is None else f"{decision.reason}: {classification.reason}"
        facts = Facts(
            format=request.format.value,
            path=self._headers[":path"].partition("?")[0][:LONGEST_PATH],
            endpoint=(endpoint or request.endpoint).value,
            here=endpoint is None,
            stream=request.stream,
            key_name=self._caller.key_name,
            tenant=self._caller.tenant,
            service=self._caller.service,
            tags=self._caller.tags,
            asked_model=request.model,
            downgraded=asking.downgraded,
            model=model.id,
            provider=model.provider,
            tier=decision.tier,
            score=None if classification is None else classification.score,
            task="" if classification is None else classification.task,
            reason=reason[:_LONGEST_REASON],
            input_tokens=tokens,
            max_tokens=request.max_tokens,
            generation=policy.generation,
            service_tier=asked_tier(request.body, request.format) if endpoint is request.endpoint else "",
            cache_ttl=_cache_ttl(request),
            session=asking.known.mark,
        )
        if endpoint is None:
            return _counted(tokens, decided_metadata(facts, step_of(decision.attempts[0], request.endpoint)))
        betas = listed(self._headers.get("anthropic-beta", ""))
        if asking.downgraded:  # nobody wrote it for this model, so it is made to fit
            request = replace(request, model=AUTO)
        sent = prepare(request, endpoint, model.id, provider, betas)
        return send(request, decision, facts, sent, policy, providers, self._headers)

    def _refuse(
        self,
        error: RequestError,
        request: Request | None = None,
        retry_after: int | None = None,
        denied: str = "",
    ) -> Refuse:
        headers = [("content-type", "application/json")]
        if error.status == 405:
            headers.append(("allow", "POST"))
        if retry_after is not None:
            headers.append(("retry-after", str(retry_after)))
        elif error.status < 500:
            # The SDKs heed it, and Claude Code would repeat even a 401 for minutes.
            headers.append(("x-should-retry", "false"))
        facts = Facts(
            format=self._endpoint.format.value,
            stream=request.stream if request else False,
            key_name=self._caller.key_name,
            tenant=self._caller.tenant,
            service=self._caller.service,
            tags=self._caller.tags,
            asked_model=request.model[:128] if request else "",
            error=error.code,
            denied=denied,
        )
        return Refuse(
            status=error.status,
            body=error_body(error, self._endpoint.format, self._headers.get("x-request-id", "")),
            headers=tuple(headers),
            metadata={"refused": error.code, "facts": encode(facts)},
            details=f"{DETAILS_PREFIX}{error.code}",
        )


def _counted(tokens: int, metadata: dict[str, str]) -> Refuse:
    """The answer to count_tokens where the provider has no such endpoint. It is an estimate and says so."""
    return Refuse(
        status=200,
        body=orjson.dumps({"input_tokens": tokens}),
        headers=(("content-type", "application/json"), ("x-aion-estimated", "true")),
        metadata=metadata,
        details="aion_counted",
    )


def _normal(path: str) -> str:
    """What people write for a path: a trailing slash, /v1 twice (a base URL and an SDK that both add it)."""
    path = path.rstrip("/")
    while path.startswith("/v1/v1/"):
        path = path[3:]
    return path


def _cache_ttl(request: Request) -> str:
    if request.format is not Format.ANTHROPIC or b'"1h"' not in request.raw:
        return ""
    lifetimes = _TTL.findall(request.raw)
    if b"1h" not in lifetimes:
        return ""
    # A cache_control without a ttl is the five-minute kind.
    whole = all(ttl == b"1h" for ttl in lifetimes) and len(_CACHE_CONTROL.findall(request.raw)) == len(lifetimes)
    return "1h" if whole else "mixed"


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}{'' if text.endswith('?') else '.'}"
