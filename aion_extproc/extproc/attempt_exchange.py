"""A later attempt of a chain: the request as an earlier attempt was sent it in, the one for this model out. No I/O.

Envoy's fallback listener asks any worker for it: all that is needed comes with the request.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from aion_extproc.accounting.facts import Facts
from aion_extproc.extproc.chain import Chain, restore
from aion_extproc.extproc.decided import decided_metadata, sent_metadata
from aion_extproc.extproc.ended import DETAILS_PREFIX
from aion_extproc.extproc.fallback_answer import encode_served
from aion_extproc.extproc.outgoing import prepare, serving_endpoint
from aion_extproc.extproc.policy import Policy
from aion_extproc.extproc.replies import Proceed, Refuse
from aion_extproc.extproc.reservation import AUTO
from aion_extproc.extproc.upstream_headers import listed, private_headers, upstream_headers
from aion_extproc.gateway.spec import UPSTREAM_HEADER
from aion_extproc.wire.endpoint import Endpoint
from aion_extproc.wire.errors import RequestError, error_body
from aion_extproc.wire.format import Format
from aion_extproc.wire.request import parse
from aion_extproc.wire.service_tier import asked_tier


class AttemptExchange:
    """One attempt. `facts`: of the attempt before; `number`: of this one, from 1 on."""

    def __init__(self, policy: Policy, facts: Facts, chain: Chain, number: int) -> None:
        self._policy = policy
        self._facts = facts
        self._chain = chain
        # Envoy stays at the last cluster of a chain that has run out.
        self._number = min(number, len(chain.steps))
        self._headers: Mapping[str, str] = {}
        self._parts: list[bytes] = []

    @property
    def failed(self) -> list[tuple[str, str]]:
        """(provider, model) of the attempts before this one."""
        return [(step.provider, step.model) for step in self._chain.steps[: self._number - 1]]

    def headers(self, headers: Mapping[str, str], end_of_stream: bool) -> Refuse | None:
        """The headers as the attempt before left them."""
        self._headers = headers
        return self._refuse(RequestError("missing_body", "The request has no body.")) if end_of_stream else None

    def body(self, data: bytes, end_of_stream: bool) -> Proceed | Refuse | None:
        self._parts.append(data)
        if not end_of_stream:
            return None
        raw = b"".join(self._parts)
        self._parts.clear()
        try:
            return self._proceed(raw)
        except RequestError as error:
            return self._refuse(error)

    def _proceed(self, raw: bytes) -> Proceed:
        chain = self._chain
        step = chain.steps[self._number - 1]
        provider = self._policy.callers.providers(self._facts.tenant).get(step.provider)
        endpoint = serving_endpoint(Endpoint(chain.endpoint), provider) if provider is not None else None
        if provider is None or endpoint is None:  # decided by a worker with another configuration
            raise RequestError("no_such_model", f"The model {step.model} is no longer configured.", status=503)
        if self._number > 1 and chain.restored is not None:
            raw = restore(raw, chain.restored)
        request = parse(raw, Endpoint(chain.endpoint))
        # The body names the model of the attempt before; the client's own words decide what may be adapted.
        request = replace(request, model=AUTO if self._facts.downgraded else self._facts.asked_model)
        client = dict(chain.anthropic)
        sent = prepare(request, endpoint, step.model, provider, listed(client.get("anthropic-beta", "")))
        facts = replace(
            self._facts,
            model=step.model,
            provider=step.provider,
            tier=step.tier,
            endpoint=endpoint.value,
            service_tier=asked_tier(request.body, request.format) if endpoint is request.endpoint else "",
        )
        request_id = self._headers.get("x-request-id", "")
        headers = upstream_headers(
            sent,
            step.model,
            provider,
            request.stream,
            chain.query if endpoint is request.endpoint else "",
            client,
        )
        removed = private_headers([*self._headers, *client], provider, endpoint)
        kept = tuple((name, value) for name, value in chain.anthropic if name not in removed)
        metadata = decided_metadata(facts, step) | sent_metadata(request, sent, facts, request_id)
        length = metadata.pop("content_length")
        cluster = self._policy.cluster(provider.name)
        return Proceed(
            set_headers=((UPSTREAM_HEADER, cluster), *headers, *kept),
            remove_headers=removed,
            body=sent.body,
            clusters=(cluster,),
            # For Envoy, in the fallback listener; the rest goes back with the answer.
            metadata={"content_length": length, "format": facts.format, "served": encode_served(metadata)},
        )

    def _refuse(self, error: RequestError) -> Refuse:
        """To the router of the chain it is an answer after which it tries the next."""
        format = Format(self._facts.format)
        return Refuse(
            status=503,
            body=error_body(error, format, self._headers.get("x-request-id", "")),
            headers=(("content-type", "application/json"),),
            metadata={"refused": error.code, "served": encode_served({"refused": error.code, "asked": ""})},
            details=f"{DETAILS_PREFIX}{error.code}",
        )
