"""`aion translate`: one request, answer, stream or error from one API to the other, as the gateway would do it."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import Literal

import orjson

from aion_extproc.extproc.outgoing import prepare
from aion_extproc.providers import KINDS, configure
from aion_extproc.providers.base import Place
from aion_extproc.wire.endpoint import Endpoint
from aion_extproc.wire.eventstream import EventStreamToSse
from aion_extproc.wire.format import Format
from aion_extproc.wire.members import with_members
from aion_extproc.wire.request import parse
from aion_extproc.wire.translate.answer_to_chat import answer_to_chat
from aion_extproc.wire.translate.answer_to_messages import answer_to_messages
from aion_extproc.wire.translate.errors import upstream_error
from aion_extproc.wire.translate.stream_to_chat import ChatStream
from aion_extproc.wire.translate.stream_to_messages import MessagesStream
from aion_extproc.wire.translate.target import Asked

What = Literal["request", "response", "stream", "error"]
Side = Literal["openai", "anthropic", "bedrock", "vertex"]

_PLACE = Place(region="us-east-1", project="project")  # the body does not depend on it


def format_of(side: Side) -> Format:
    """Bedrock and Vertex speak Anthropic's format in an envelope of their own."""
    return Format.OPENAI if side == "openai" else Format.ANTHROPIC


def convert_request(raw: bytes, source: Side, target: Side, model: str | None) -> tuple[bytes, tuple[str, ...]]:
    """The body for the target and what could not be said in it. RequestError: it cannot be sent there."""
    request = parse(_with_model(raw, source, model), format_of(source))
    endpoint = Endpoint.CHAT if target == "openai" else Endpoint.MESSAGES
    provider = configure(target, KINDS[target], api_key="none", place=_PLACE)
    sent = prepare(request, endpoint, model or request.model, provider, ())
    return sent.body, sent.dropped


def _with_model(raw: bytes, source: Side, model: str | None) -> bytes:
    """Bedrock and Vertex have the model in the path, so a body of theirs has none."""
    if model is None or source not in ("bedrock", "vertex"):
        return raw
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError:
        return raw
    if not isinstance(body, dict) or "model" in body:
        return raw
    return with_members(raw, {}, [b'"model":' + orjson.dumps(model)])


def convert_answer(raw: bytes, source: Side, target: Side, model: str | None) -> bytes:
    """A whole JSON answer. AnswerError: it is none."""
    asked = Asked(model or "")
    if format_of(source) is format_of(target):
        return raw
    if format_of(target) is Format.OPENAI:
        return answer_to_chat(raw, asked, created=int(time.time()))
    return answer_to_messages(raw, asked)


def convert_stream(chunks: Iterable[bytes], source: Side, target: Side, model: str | None) -> Iterator[bytes]:
    """A stream, piece by piece as it comes in."""
    frames = EventStreamToSse() if source == "bedrock" else None
    translator: ChatStream | MessagesStream | None = None
    if format_of(source) is not format_of(target):
        asked = Asked(model or "", wants_usage=True)
        to_chat = format_of(target) is Format.OPENAI
        translator = ChatStream(asked, created=int(time.time())) if to_chat else MessagesStream(asked)
    for chunk in chunks:
        data = frames.feed(chunk) if frames else chunk
        yield translator.feed(data) if translator else data
    rest = frames.finish() if frames else b""
    yield translator.feed(rest) + translator.finish() if translator else rest


def convert_error(raw: bytes, target: Side, status: int) -> bytes:
    """An error answer, of whatever shape, in the target's."""
    return upstream_error(status, raw, "application/json", format_of(target), "")
