"""A request as a provider wants it: its endpoint, its body, and which way the answer must take back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from aion_extproc.catalog.catalog import VIRTUAL_MODELS
from aion_extproc.gateway.spec import RESPONSE_PROCESS, RESPONSE_STRIP_USAGE, RESPONSE_TRANSLATE
from aion_extproc.providers import Kind, Provider
from aion_extproc.wire.adapt import adapt_chat, adapt_messages
from aion_extproc.wire.endpoint import Endpoint
from aion_extproc.wire.envelope import enclose
from aion_extproc.wire.format import Format
from aion_extproc.wire.history import messages_turns
from aion_extproc.wire.request import Request, rewrite
from aion_extproc.wire.translate.request_to_chat import to_chat
from aion_extproc.wire.translate.request_to_messages import to_messages

_OTHER = {Endpoint.CHAT: Endpoint.MESSAGES, Endpoint.MESSAGES: Endpoint.CHAT}
# Streams in which a provider counts its tokens only when asked to.
_COUNT_ON_REQUEST = (Endpoint.CHAT, Endpoint.COMPLETIONS)
# Answers in which Envoy does not find the usage.
UNCOUNTED = frozenset({Endpoint.RESPONSES, Endpoint.EMBEDDINGS})


@dataclass(frozen=True, slots=True)
class Outgoing:
    """What is sent to a provider."""

    endpoint: Endpoint  # the provider's
    body: bytes
    way: str  # of the answer, a value of RESPONSE_HEADER; "": untouched
    dropped: tuple[str, ...] = ()
    tool_names: Mapping[str, str] = field(default_factory=dict)


def serving_endpoint(asked: Endpoint, provider: Provider) -> Endpoint | None:
    """The provider's own endpoint of that kind, else the one that it can be translated to, else None."""
    if asked in provider.kind.endpoints:
        return asked
    other = _OTHER.get(asked)
    return other if other in provider.kind.endpoints else None


def prepare(
    request: Request, endpoint: Endpoint, model: str, provider: Provider, betas: tuple[str, ...], *, exact_cost: bool
) -> Outgoing:
    """The request for this endpoint of the provider. RequestError: it cannot be said in the other format.

    `betas`: what the client listed in anthropic-beta. `exact_cost`: a JSON answer is held to put its cost in a header.
    """
    kind = provider.kind
    if endpoint is request.endpoint:
        unasked = request.stream and endpoint in _COUNT_ON_REQUEST and not request.wants_usage
        if endpoint is Endpoint.CHAT and not kind.chat(model).stream_options:
            unasked = False
        body = rewrite(request, model, ask_usage=unasked)
        body, dropped = _fitted(body, request, endpoint, model, kind)
        outgoing = Outgoing(endpoint, body, _way(request, unasked, exact_cost), dropped)
    else:
        if endpoint is Endpoint.MESSAGES:
            translated = to_messages(request, model, kind.messages(model))
        else:
            translated = to_chat(request, model, kind.chat(model))
        outgoing = Outgoing(
            endpoint, translated.body, RESPONSE_TRANSLATE, translated.dropped, translated.tool_names
        )
    if endpoint.format is Format.ANTHROPIC and kind.envelope.changes_body:
        # A cloud's errors are in a shape of its own, and perhaps its streams.
        body = enclose(outgoing.body, kind.envelope, betas)
        return Outgoing(endpoint, body, RESPONSE_TRANSLATE, outgoing.dropped, outgoing.tool_names)
    return outgoing


def _fitted(
    body: bytes, request: Request, endpoint: Endpoint, model: str, kind: Kind
) -> tuple[bytes, tuple[str, ...]]:
    """The request as the model takes it, and what that cost. Nobody can write one for a model that is chosen
    afterwards; of one for a model that the client named, only what we have put into the conversation is taken out."""
    chosen = request.model in VIRTUAL_MODELS
    if chosen and endpoint is Endpoint.CHAT:
        return adapt_chat(body, request.body, kind.chat(model))
    if endpoint.format is not Format.ANTHROPIC:
        return body, ()
    target = kind.messages(model)
    adapted: tuple[str, ...] = ()
    if chosen:
        body, adapted = adapt_messages(body, request.body, target)
    body, lost = messages_turns(body, request.body, target, chosen=chosen)
    return body, tuple(sorted({*adapted, *lost}))


def _way(request: Request, unasked: bool, exact_cost: bool) -> str:
    if request.endpoint is Endpoint.COUNT_TOKENS:
        return ""  # nothing to count: it is free
    if request.endpoint in UNCOUNTED:
        return RESPONSE_PROCESS
    if request.stream:
        return RESPONSE_STRIP_USAGE if unasked else ""
    return RESPONSE_PROCESS if exact_cost else ""
