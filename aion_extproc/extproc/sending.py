"""From a decision to what Envoy is told: the first attempt's request, and the chain of those that stand by."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from aion_extproc.accounting.facts import Facts
from aion_extproc.extproc.chain import Chain, Step, encode_chain, restorable
from aion_extproc.extproc.decided import decided_metadata, sent_metadata
from aion_extproc.extproc.outgoing import Outgoing, prepare, serving_endpoint, way_back
from aion_extproc.extproc.policy import Policy
from aion_extproc.extproc.replies import Headers, Proceed
from aion_extproc.extproc.upstream_headers import ANTHROPIC_PREFIX, private_headers, upstream_headers
from aion_extproc.gateway.spec import FALLBACK_CLUSTER, RESPONSE_HEADER
from aion_extproc.providers import Provider
from aion_extproc.routing.decision import Attempt, Decision
from aion_extproc.wire.endpoint import Endpoint
from aion_extproc.wire.errors import RequestError
from aion_extproc.wire.format import Format
from aion_extproc.wire.request import Request
from aion_extproc.wire.translate.screening import is_plain
from aion_extproc.wire.translate.target import ChatTarget, MessagesTarget

# What may go well elsewhere, beside all 5xx: our key there (401, 403), our credit (402), a model that is not there
# (404), time (408), limits (429). What is wrong with the request itself would fail again.
RETRIABLE = (401, 402, 403, 404, 408, 429)
_RETRY_ON = "5xx,reset,connect-failure,refused-stream,retriable-status-codes"
_Planned = tuple[Attempt, Provider, Endpoint]


def send(
    request: Request,
    decision: Decision,
    facts: Facts,
    sent: Outgoing,
    policy: Policy,
    providers: Mapping[str, Provider],
    client: Mapping[str, str],
) -> Proceed:
    """`sent`: the first attempt's request; `providers`: with the caller's keys; `client`: the client's headers."""
    model = decision.model
    provider = providers[model.provider]
    attempts = [(decision.attempts[0], provider, sent.endpoint), *_standing_by(request, decision, sent, policy)]
    restored = restorable(request) if sent.reversible and len(attempts) > 1 else None
    if restored is None and provider.signing == "gcp":
        del attempts[1:]  # it cannot be written on its way out, so nobody could write another one
    _, mark, query = client[":path"].partition("?")
    query = mark + query
    steps = tuple(step_of(attempt, request.endpoint) for attempt, _, _ in attempts)
    metadata = decided_metadata(facts, steps[0]) | sent_metadata(request, sent, facts, client.get("x-request-id", ""))
    ways = [(endpoint, attempt.model.id, provider.kind) for attempt, provider, endpoint in attempts]
    way = way_back(request, ways, exact_cost=policy.exact_json_cost)
    headers: Headers = ((RESPONSE_HEADER, way),) if way else ()
    body, clusters = sent.body, [policy.cluster(provider.name)]
    if len(attempts) > 1:
        if restored is None:
            body, clusters = request.raw, [FALLBACK_CLUSTER]
            metadata["content_length"] = str(len(body))
        clusters += [FALLBACK_CLUSTER] * (len(attempts) - 1)
        anthropic = tuple((name, value) for name, value in client.items() if name.startswith(ANTHROPIC_PREFIX))
        metadata["chain"] = encode_chain(Chain(request.endpoint.value, query, anthropic, restored, steps))
        usual = policy.first_byte_timeout if request.stream else policy.answer_timeout
        headers += _retry_headers(len(steps), decision.first_byte_timeout or usual)
    own_query = query if sent.endpoint is request.endpoint else ""
    headers += upstream_headers(sent, model.id, provider, request.stream, own_query, client)
    return Proceed(
        set_headers=headers,
        remove_headers=private_headers(client, provider, sent.endpoint),
        body=body,
        clusters=tuple(clusters),
        metadata=metadata,
    )


def step_of(attempt: Attempt, endpoint: Endpoint) -> Step:
    """An attempt as it travels."""
    model, cost, savings = attempt.model, attempt.expected_cost_nano, attempt.expected_savings_nano
    if endpoint is Endpoint.COUNT_TOKENS:  # free everywhere
        cost = savings = 0
    return Step(model.provider, model.id, model.tier, cost, savings)


def _standing_by(request: Request, decision: Decision, sent: Outgoing, policy: Policy) -> Iterator[_Planned]:
    """The attempts after the first, those left out that cannot be told the request: it is written only when an attempt
    is made, and that one would be made for nothing."""
    plain: dict[Endpoint, bool] = {}
    told: dict[tuple[Endpoint, ChatTarget | MessagesTarget], bool] = {}
    for attempt in decision.attempts[1:]:
        model, provider = attempt.model, policy.providers[attempt.model.provider]
        endpoint = serving_endpoint(request.endpoint, provider)
        if endpoint is None:
            continue
        if endpoint not in plain:
            plain[endpoint] = is_plain(request, endpoint)
        if not plain[endpoint]:
            if not told:
                first = decision.model
                told[sent.endpoint, _target(sent.endpoint, first.id, policy.providers[first.provider])] = True
            target = endpoint, _target(endpoint, model.id, provider)
            if target not in told:
                told[target] = _can_be_told(request, endpoint, model.id, provider)
            if not told[target]:
                continue
        yield attempt, provider, endpoint


def _target(endpoint: Endpoint, model: str, provider: Provider) -> ChatTarget | MessagesTarget:
    """What decides whether a request can be written for a model."""
    return provider.kind.messages(model) if endpoint.format is Format.ANTHROPIC else provider.kind.chat(model)


def _can_be_told(request: Request, endpoint: Endpoint, model: str, provider: Provider) -> bool:
    try:
        prepare(request, endpoint, model, provider, ())
    except RequestError:
        return False
    return True


def _retry_headers(attempts: int, first_byte_timeout: float) -> Headers:
    """For Envoy's router, which takes them off again."""
    return (
        ("x-envoy-max-retries", str(attempts - 1)),
        ("x-envoy-retry-on", _RETRY_ON),
        ("x-envoy-retriable-status-codes", ",".join(map(str, RETRIABLE))),
        ("x-envoy-upstream-rq-per-try-timeout-ms", str(round(first_byte_timeout * 1000))),
    )
