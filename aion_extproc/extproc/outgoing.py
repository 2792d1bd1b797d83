"""A request as a provider wants it: its endpoint, its body, and which way the answer must take back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from aion_extproc.catalog.catalog import VIRTUAL_MODELS
from aion_extproc.gateway.spec import (
    RESPONSE_PROCESS,
    RESPONSE_STRIP_USAGE,
    RESPONSE_TRANSLATE,
)
from aion_extproc.providers import Kind, Provider
from aion_extproc.wire.adapt import WORDS, adapt_chat, adapt_messages
from aion_extproc.wire.endpoint import Endpoint
from aion_extproc.wire.envelope import enclose
from aion_extproc.wire.format import Format
from aion_extproc.wire.history import chat_turns, messages_turns
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
    dropped: tuple[str, ...] = ()
    tool_names: Mapping[str, str] = field(default_factory=dict)
    translated: bool = False  # the client cannot read the answer as it will come
    # The client's own request can be had from this body again by putting back a few settings (chain.restore).
    reversible: bool = True


def serving_endpoint(asked: Endpoint, provider: Provider) -> Endpoint | None:
    """The provider's own endpoint of that kind, else the one that it can be translated to, else None."""
    if asked in provider.kind.endpoints:
        return asked
    other = _OTHER.get(asked)
    return other if other in provider.kind.endpoints else None


def prepare(
    request: Request, endpoint: Endpoint, model: str, provider: Provider, betas: tuple[str, ...]
) -> Outgoing:
    """The request for this endpoint of the provider. RequestError: it cannot be said in the other format.

    `betas`: what the client listed in anthropic-beta.
    """
    kind = provider.kind
    if endpoint is request.endpoint:
        body = rewrite(request, model, ask_usage=_asks_usage(request, model, kind))
        body, dropped, reversible = _fitted(body, request, endpoint, model, kind)
        outgoing = Outgoing(endpoint, body, dropped, reversible=reversible)
    else:
        if endpoint is Endpoint.MESSAGES:
            translated = to_messages(request, model, kind.messages(model))
        else:
            translated = to_chat(request, model, kind.chat(model))
        outgoing = Outgoing(
            endpoint, translated.body, translated.dropped, translated.tool_names, translated=True, reversible=False
        )
    if _is_enclosed(endpoint, kind):
        body = enclose(outgoing.body, kind.envelope, betas)
        return replace(outgoing, body=body, translated=True, reversible=False)
    return outgoing


def way_back(request: Request, attempts: Iterable[tuple[Endpoint, str, Kind]], *, exact_cost: bool) -> str:
    """The way that the answer must take, a value of RESPONSE_HEADER or "" for none, whichever attempt (endpoint, model,
    kind of provider) serves it. `exact_cost`: a JSON answer is held to put its cost in a header.

    Of a chain, what must be translated comes by the fallback listener, and says so itself (gateway/answers.py).
    """
    planned = list(attempts)
    native = [
        (model, kind) for endpoint, model, kind in planned
        if endpoint is request.endpoint and not _is_enclosed(endpoint, kind)
    ]
    if len(planned) == 1 and not native:
        return RESPONSE_TRANSLATE
    strip = any(_asks_usage(request, model, kind) for model, kind in native)
    if request.endpoint is Endpoint.COUNT_TOKENS:
        return ""  # nothing to count: it is free
    if request.endpoint in UNCOUNTED:
        return RESPONSE_PROCESS
    if request.stream:
        return RESPONSE_STRIP_USAGE if strip else ""
    return RESPONSE_PROCESS if exact_cost else ""


def _is_enclosed(endpoint: Endpoint, kind: Kind) -> bool:
    """A cloud's errors are in a shape of its own, and perhaps its streams."""
    return endpoint.format is Format.ANTHROPIC and kind.envelope.changes_body


def _asks_usage(request: Request, model: str, kind: Kind) -> bool:
    """Whether we must ask for the counts of a stream in the client's own format, who did not."""
    if not request.stream or request.wants_usage or request.endpoint not in _COUNT_ON_REQUEST:
        return False
    return request.endpoint is not Endpoint.CHAT or kind.chat(model).stream_options


def _fitted(
    body: bytes, request: Request, endpoint: Endpoint, model: str, kind: Kind
) -> tuple[bytes, tuple[str, ...], bool]:
    """The request as the model takes it, what that cost, and whether only settings changed. Nobody can write one
    for a model that is chosen afterwards; of one for a model that the client named, only what we have put into the
    conversation is taken out."""
    chosen = request.model in VIRTUAL_MODELS
    if endpoint is Endpoint.CHAT:
        if not chosen:
            return body, (), True
        target = kind.chat(model)
        turned, lost = chat_turns(body, request.body, target)
        fitted, adapted = adapt_chat(turned, request.body, target)
        return fitted, tuple(sorted({*adapted, *lost})), turned is body and WORDS.isdisjoint(adapted)
    if endpoint.format is not Format.ANTHROPIC:
        return body, (), True
    takes = kind.messages(model)
    adapted = ()
    if chosen:
        body, adapted = adapt_messages(body, request.body, takes)
    turned, lost = messages_turns(body, request.body, takes, chosen=chosen)
    return turned, tuple(sorted({*adapted, *lost})), turned is body and WORDS.isdisjoint(adapted)
