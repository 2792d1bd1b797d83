"""A request: a read-only view of the parsed body, the client's own bytes kept, and the few edits made to them."""

from __future__ import annotations

import gc
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import isinf
from typing import Any, NoReturn

import orjson

from aion_extproc.wire import passthrough
from aion_extproc.wire.conversation import Preferences
from aion_extproc.wire.endpoint import Endpoint
from aion_extproc.wire.errors import RequestError
from aion_extproc.wire.format import Format
from aion_extproc.wire.members import Edit, Member, edited, members

PREFERENCES = "aion_preferences"
_LARGE_BODY = 1 << 20
_MOST_TOKENS = 10**12  # a larger limit is none, and what is counted with it stays within 64 bits
_MODEL_KEY = b'"model"'
_MODEL_VALUE = re.compile(rb'"model"\s*+:\s*+("(?:[^"\\]++|\\.)*+")')
_USAGE_OPTIONS = b',"stream_options":{"include_usage":true}'
_CHAT_ENDPOINTS = {Format.OPENAI: Endpoint.CHAT, Format.ANTHROPIC: Endpoint.MESSAGES}
_WITHOUT_MESSAGES = (Endpoint.EMBEDDINGS, Endpoint.COMPLETIONS, Endpoint.RESPONSES)
# The members that limit the answer; the first one given counts.
_LIMITS: Mapping[Endpoint, tuple[str, ...]] = {
    Endpoint.CHAT: ("max_completion_tokens", "max_tokens"),
    Endpoint.COMPLETIONS: ("max_tokens",),
    Endpoint.RESPONSES: ("max_output_tokens",),
    Endpoint.EMBEDDINGS: (),
    Endpoint.MESSAGES: ("max_tokens",),
    Endpoint.COUNT_TOKENS: ("max_tokens",),
}
_PREFERENCE_KEYS = ("tier", "prefer_quality", "prefer_speed")


@dataclass(frozen=True, slots=True)
class Request:
    """`body` is what the bytes say; `raw` is what the client sent, and what is edited."""

    endpoint: Endpoint
    raw: bytes
    body: dict[str, Any]
    model: str
    messages: list[dict[str, Any]]  # of a responses request its items; of embeddings and completions none
    stream: bool
    wants_usage: bool  # an OpenAI stream whose client asked for the usage chunk itself
    max_tokens: int | None
    preferences: Preferences

    @property
    def format(self) -> Format:
        return self.endpoint.format


def parse(raw: bytes, asked: Format | Endpoint) -> Request:
    """Read the body of a request to an endpoint (a format stands for its chat endpoint). Raises RequestError, which
    names the field at fault."""
    endpoint = _CHAT_ENDPOINTS[asked] if isinstance(asked, Format) else asked
    body = _load(raw)
    if not isinstance(body, dict):
        raise RequestError("invalid_type", f"The request body must be a JSON object, not {_name(body)}.")
    model = body.get("model")
    if not isinstance(model, str) or not model:
        _wrong(body, "model", "a non-empty string such as \"aion-auto\"")
    if endpoint in _WITHOUT_MESSAGES:
        passthrough.check(body, endpoint)
        messages = passthrough.chat_messages(body) if endpoint is Endpoint.RESPONSES else []
    else:
        messages = _messages(body, endpoint.format)
    stream = body.get("stream")
    if stream is not None and not isinstance(stream, bool):
        _wrong(body, "stream", "true or false")
    max_tokens = next((limit for name in _LIMITS[endpoint] if (limit := _tokens(body, name)) is not None), None)
    if endpoint.format is Format.ANTHROPIC:
        _check_system(body.get("system"))
    tools = body.get("tools")
    if tools is not None and not isinstance(tools, list):
        _wrong(body, "tools", "a list of tool definitions")
    return Request(
        endpoint=endpoint,
        raw=raw,
        body=body,
        # No model's name has half a surrogate pair in it, and nothing further on could write it down.
        model=model if model.isascii() else model.encode("utf-8", "replace").decode(),
        messages=messages,
        stream=bool(stream),
        wants_usage=_wants_usage(body),
        max_tokens=max_tokens,
        preferences=_preferences(body.get(PREFERENCES)),
    )


def _messages(body: dict[str, Any], format: Format) -> list[dict[str, Any]]:
    messages = body.get("messages")
    if not isinstance(messages, list):
        _wrong(body, "messages", "a list of messages")
    if not messages:
        raise RequestError("empty_messages", "messages must hold at least one message.", param="messages")
    for index, message in enumerate(messages):
        _check_message(index, message, format)
    return messages


def rewrite(request: Request, model: str, *, ask_usage: bool) -> bytes:
    """The client's bytes with `model` as their model, without `aion_preferences`, and, when `ask_usage`, with
    `stream_options.include_usage` true. Nothing else changes; where nothing must change the bytes are the same
    object."""
    edits = _plain_edits(request, model, ask_usage)
    return edited(request.raw, _edits(request, model, ask_usage) if edits is None else edits)


def _edits(request: Request, model: str, ask_usage: bool) -> list[Edit]:
    """What to put in place of which bytes, each (start, end, replacement)."""
    raw = request.raw
    edits = []
    found = list(members(raw))
    has_options = False
    kept_end: int | None = None  # where the last member that stays ends
    for index, member in enumerate(found):
        if member.key == PREFERENCES:
            edits.append(_removal(found, index, kept_end))
            continue
        kept_end = member.end
        if member.key == "model":
            value = orjson.dumps(model)
            if raw[member.value : member.end] != value:
                edits.append((member.value, member.end, value))
        elif member.key == "stream_options" and ask_usage:
            has_options = True
            edits.extend(_include_usage(raw, member))
    if ask_usage and not has_options:
        edits.append(_added_options(raw))
    return edits


def _plain_edits(request: Request, model: str, ask_usage: bool) -> list[Edit] | None:
    """The same edits without walking through the members, where that is certain to be right; else None.

    A key that reads "model" is written literally or has an escape that begins with \\u006. If there is no such
    escape and the literal stands only once, then it is the top-level key that the parser saw.
    """
    raw = request.raw
    adds_options = ask_usage and "stream_options" not in request.body
    if PREFERENCES in request.body or (ask_usage and not adds_options):
        return None
    if raw.count(_MODEL_KEY) != 1 or b"\\u006" in raw:
        return None
    value = _MODEL_VALUE.match(raw, raw.index(_MODEL_KEY))
    if value is None:
        return None
    edits = [(value.start(1), value.end(1), orjson.dumps(model))]
    if adds_options:
        edits.append(_added_options(raw))
    return edits


def _added_options(raw: bytes) -> Edit:
    """As the last member: a request has a model, so a comma belongs before it."""
    end = raw.rindex(b"}")
    return (end, end, _USAGE_OPTIONS)


def _removal(found: list[Member], index: int, kept_end: int | None) -> Edit:
    """With the comma before it, or, when nothing before it stays, with the one after it."""
    member = found[index]
    if kept_end is not None:
        return (found[index - 1].end, member.end, b"")
    return (member.start, found[index + 1].start, b"")


def _include_usage(raw: bytes, options: Member) -> list[Edit]:
    if raw[options.value : options.value + 1] != b"{":  # null
        return [(options.value, options.end, b'{"include_usage":true}')]
    inner = list(members(raw, options.value))
    asked = [member for member in inner if member.key == "include_usage"]
    if asked:
        return [(member.value, member.end, b"true") for member in asked]
    first = options.value + 1
    return [(first, first, b'"include_usage":true' + (b"," if inner else b""))]


def _load(raw: bytes) -> Any:
    large = len(raw) > _LARGE_BODY and gc.isenabled()
    if large:
        # The collector walks through all that is being built, again and again: measured on 60 MB of small objects,
        # 9 s with it and 1 s without.
        gc.disable()
    try:
        return _parsed(raw)
    finally:
        if large:
            gc.enable()


def _parsed(raw: bytes) -> Any:
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        # orjson refuses what JavaScript clients do send: a lone surrogate escape, where a text was cut inside an
        # emoji. The standard parser takes it; it is slower, so it comes second.
        if b"\\u" in raw:
            try:
                return json.loads(raw.decode("utf-8"), parse_constant=_no_constant, parse_float=_finite)
            except (ValueError, RecursionError):
                pass
        raise RequestError("invalid_json", f"The request body is not valid JSON: {_detail(raw, error)}.") from None


def _no_constant(name: str) -> NoReturn:
    raise ValueError(name)


def _finite(number: str) -> float:
    found = float(number)
    if isinf(found):
        raise ValueError("a number that is too large, which orjson refuses too")
    return found


def _detail(raw: bytes, error: orjson.JSONDecodeError) -> str:
    if not raw.strip():
        return "it is empty"
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError as wrong:
        return f"byte {wrong.start} is not UTF-8"
    # The parser's own message, which has a position and no text of the request.
    return str(error)


def _name(value: object) -> str:
    names = {dict: "an object", list: "a list", str: "a string", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")


def _wrong(body: dict[str, Any], field: str, wanted: str) -> NoReturn:
    if field not in body:
        raise RequestError("missing_field", f"{field} is missing: it must be {wanted}.", param=field)
    raise RequestError("invalid_type", f"{field} must be {wanted}, not {_name(body[field])}.", param=field)


def _tokens(body: dict[str, Any], field: str) -> int | None:
    value = body.get(field)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        _wrong(body, field, "a non-negative integer")
    return min(value, _MOST_TOKENS)


def _check_message(index: int, message: object, format: Format) -> None:
    where = f"messages[{index}]"
    if not isinstance(message, dict):
        raise RequestError("invalid_type", f"{where} must be an object, not {_name(message)}.", param=where)
    if not isinstance(message.get("role"), str):
        raise RequestError("invalid_type", f"{where}.role must be a string.", param=f"{where}.role")
    content = message.get("content")
    if content is None and format is Format.OPENAI:
        return  # an assistant turn that only calls tools
    if "content" not in message and message["role"] == "system" and isinstance(message.get("output_config"), dict):
        return  # a beta: it only says the effort from here on
    _check_content(content, f"{where}.content")


def _check_content(content: object, where: str) -> None:
    if isinstance(content, str):
        return
    if not isinstance(content, list):
        message = f"{where} must be a string or a list of parts, not {_name(content)}."
        raise RequestError("invalid_type", message, param=where)
    for index, part in enumerate(content):
        if not isinstance(part, dict) or not isinstance(part.get("type"), str):
            message = f"{where}[{index}] must be an object with a type."
            raise RequestError("invalid_type", message, param=f"{where}[{index}]")


def _check_system(system: object) -> None:
    if system is not None:
        _check_content(system, "system")


def _wants_usage(body: dict[str, Any]) -> bool:
    options = body.get("stream_options")
    if options is None:
        return False
    if not isinstance(options, dict):
        _wrong(body, "stream_options", "an object")
    return options.get("include_usage") is True


def _preferences(value: object) -> Preferences:
    if value is None:
        return Preferences()
    if not isinstance(value, dict):
        raise RequestError("invalid_type", f"{PREFERENCES} must be an object.", param=PREFERENCES)
    for key in value:
        if key not in _PREFERENCE_KEYS:
            known = ", ".join(_PREFERENCE_KEYS)
            message = f"{PREFERENCES} has an unknown key; the known ones are {known}."
            raise RequestError("invalid_preferences", message, param=PREFERENCES)
    tier = value.get("tier")
    if isinstance(tier, bool) or tier not in (None, 1, 2, 3):
        raise RequestError("invalid_preferences", "tier must be 1, 2 or 3.", param=f"{PREFERENCES}.tier")
    for key in ("prefer_quality", "prefer_speed"):
        if not isinstance(value.get(key, False), bool):
            raise RequestError("invalid_preferences", f"{key} must be true or false.", param=f"{PREFERENCES}.{key}")
    return Preferences(
        tier=tier,
        prefer_quality=value.get("prefer_quality", False),
        prefer_speed=value.get("prefer_speed", False),
    )
