"""A provider's errors in the shape of the API that the client called, as an answer of their own or inside a stream.

Whatever stands before a model may answer: the provider in its API's shape, a cloud in its own, a proxy with a
page of HTML, a load balancer with nothing. What can be read of it is kept: message, type, code, param, each bounded.

https://platform.claude.com/docs/en/api/errors, https://platform.openai.com/docs/guides/error-codes
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import orjson

from aion_extproc.wire.format import Format
from aion_extproc.wire.translate.odd_json import loads

_LONGEST_MESSAGE = 2000  # characters; what a user reads, not what a server logs
_LONGEST_NAME = 100  # a type, code or param
_LARGEST_BODY = 1 << 20  # a larger one is read as text: its beginning is enough
_DEEPEST = 4  # errors in errors, as routers wrap those of their providers

_ANTHROPIC_TYPES = {  # by status
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
    529: "overloaded_error",
}
_OPENAI_TYPES = {  # by status, as in wire.errors
    401: "authentication_error",
    402: "insufficient_quota",
    403: "permission_error",
    429: "rate_limit_error",
}
# Anthropic's types as OpenAI's (type, code where the provider gave none).
_TO_OPENAI = {
    "invalid_request_error": ("invalid_request_error", ""),
    "authentication_error": ("authentication_error", "invalid_api_key"),
    "billing_error": ("insufficient_quota", "insufficient_quota"),
    "permission_error": ("permission_error", ""),
    "not_found_error": ("invalid_request_error", "not_found"),
    "request_too_large": ("invalid_request_error", "request_too_large"),
    "rate_limit_error": ("rate_limit_error", "rate_limit_exceeded"),
    "timeout_error": ("server_error", "timeout"),
    "api_error": ("server_error", ""),
    "overloaded_error": ("server_error", "overloaded"),
}
# What other servers call theirs, as Anthropic's types. A type that is not here says less than the status does: OpenAI
# calls nearly everything an invalid_request_error.
_TO_ANTHROPIC = {
    "insufficient_quota": "billing_error",
    "requests": "rate_limit_error",
    "tokens": "rate_limit_error",
    "rate_limit_exceeded": "rate_limit_error",
    "RESOURCE_EXHAUSTED": "rate_limit_error",
    "ThrottlingException": "rate_limit_error",
    "engine_overloaded_error": "overloaded_error",
    "service_unavailable_error": "overloaded_error",
    "server_is_overloaded": "overloaded_error",
    "overloaded": "overloaded_error",
    "UNAVAILABLE": "overloaded_error",
    "timeout": "timeout_error",
    "invalid_api_key": "authentication_error",
    "model_not_found": "not_found_error",
}
# The status of an error that came without one: in a stream, or under a 200.
_STATUS = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "timeout_error": 504,
    "overloaded_error": 529,
}
_CONTEXT_CODE = "context_length_exceeded"
# How servers say that a conversation is too long, lower case. Agents compact theirs when they are told so, and look
# for the code in OpenAI's API and for the words "prompt is too long" in Anthropic's.
_TOO_LONG = (
    "prompt is too long",
    "exceed context limit",
    "maximum context length",
    "exceeds the available context size",
    "exceeds the context window",
    "exceeds the model's context",
    "exceeds the maximum context",
    "context_length_exceeded",
)
_CONTEXT_TYPES = (_CONTEXT_CODE, "exceed_context_size_error")


@dataclass(frozen=True, slots=True)
class Failure:
    """What an error says of itself; "" and 0: nothing."""

    message: str = ""
    type: str = ""
    code: str = ""
    param: str = ""
    status: int = 0

    @property
    def own_status(self) -> int:
        """The status that the error itself asks for, where HTTP gave none; 502 when it does not say."""
        kind = self.type if self.type in _STATUS else _TO_ANTHROPIC.get(self.type) or _TO_ANTHROPIC.get(self.code, "")
        return self.status or _STATUS.get(kind, 502)


def upstream_error(status: int, body: bytes, content_type: str, client: Format, request_id: str) -> bytes:
    """A provider's error answer as the JSON body of the client's. `status` is the provider's and stays as it is;
    `request_id` is ours, for the shape that has a place for it."""
    failure = _read(body, content_type)
    if not failure.message:
        what = failure.type or failure.code
        failure = replace(failure, message=f"The provider answered {status}" + (f" ({what})." if what else "."))
    detail = _detail(failure, status, client)
    if client is Format.ANTHROPIC:
        return orjson.dumps({"type": "error", "error": detail, "request_id": request_id})
    return orjson.dumps({"error": detail})


def in_band_error(
    client: Format, code: str, message: str, status: int = 502, *, type: str = "", param: str = ""
) -> bytes:
    """An error inside a stream that has begun: one SSE event, after which nothing may come.

    `type` is the provider's, if it named one; else it follows from `status`. What a provider said in-band is
    `failure_in(event)`: hand on its parts and its `own_status`."""
    failure = Failure(_bounded(message, _LONGEST_MESSAGE), type, _name(code), _name(param))
    detail = _detail(failure, status, client)
    if client is Format.ANTHROPIC:
        return b"event: error\ndata: " + orjson.dumps({"type": "error", "error": detail}) + b"\n\n"
    return b"data: " + orjson.dumps({"error": detail}) + b"\n\n"


def failure_in(said: object) -> Failure:
    """What decoded JSON of any shape says of an error."""
    return _failure(said, _DEEPEST)


def _detail(failure: Failure, status: int, client: Format) -> dict[str, Any]:
    """The `error` object of either API."""
    too_long = _is_too_long(failure, status)
    if client is Format.OPENAI:
        kind, code = _TO_OPENAI.get(failure.type, (failure.type, ""))
        fallback = "invalid_request_error" if status < 500 else "server_error"
        return {
            "message": failure.message,
            "type": kind or _OPENAI_TYPES.get(status, fallback),
            "param": failure.param or None,
            "code": _CONTEXT_CODE if too_long else failure.code or code or None,
        }
    message = failure.message
    if failure.param and failure.param not in message:
        message += f" (param: {failure.param})"
    if too_long and _TOO_LONG[0] not in message.lower():
        message = f"{_TOO_LONG[0]}: {message}"
    detail: dict[str, Any] = {"type": _anthropic_type(failure, status), "message": message}
    if failure.code:
        detail["details"] = {"error_code": failure.code}
    return detail


def _anthropic_type(failure: Failure, status: int) -> str:
    if kind := _TO_ANTHROPIC.get(failure.type) or _TO_ANTHROPIC.get(failure.code):
        return kind
    if failure.type in _TO_OPENAI and failure.type not in ("invalid_request_error", "api_error"):
        return failure.type
    fallback = "invalid_request_error" if status < 500 else "api_error"
    return _ANTHROPIC_TYPES.get(status, fallback)


def _is_too_long(failure: Failure, status: int) -> bool:
    if failure.code in _CONTEXT_TYPES or failure.type in _CONTEXT_TYPES:
        return True
    if status not in (400, 413):
        return False
    message = failure.message.lower()
    return any(words in message for words in _TOO_LONG)


def _read(body: bytes, content_type: str) -> Failure:
    text = body[: 4 * _LONGEST_MESSAGE].decode("utf-8", "replace").strip()
    if text.startswith(("data:", "event:")):  # an error in a stream's clothes
        lines = (line.strip() for line in body.splitlines())
        body = next((line[5:].strip() for line in lines if line.startswith(b"data:")), b"")
    if body.strip() == b"null":
        return Failure()
    if len(body) <= _LARGEST_BODY and (said := _json(body)) is not None:
        failure = failure_in(said)
        # JSON of no known shape is shown as it is, rather than nothing.
        return failure if failure.message else replace(failure, message=_line(text) if said else "")
    if "html" in content_type.lower() or text[:1] == "<":
        return Failure(_page(text))
    if text.count("\ufffd") * 4 > len(text):
        return Failure("The provider's error could not be read: it is not text.")
    return Failure(_line(text))


def _json(body: bytes) -> Any:
    try:
        return loads(body)
    except ValueError:
        return None


def _failure(said: object, depth: int) -> Failure:
    if isinstance(said, str):
        return Failure(_bounded(said, _LONGEST_MESSAGE))
    if isinstance(said, list):  # Google's, in a list; FastAPI's and Cloudflare's, several
        found = [_failure(item, depth - 1) for item in said[:5]] if depth else []
        message = "; ".join(failure.message for failure in found if failure.message)
        return replace(found[0], message=_bounded(message, _LONGEST_MESSAGE)) if found else Failure()
    if not isinstance(said, dict) or not depth:
        return Failure()
    for key in ("error", "errors", "detail"):
        if inner := said.get(key):
            failure = _failure(inner, depth - 1)
            # Around the error there may be a message too: {"error": "unauthorized", "message": "…"}.
            outer = said.get("message")
            if isinstance(inner, str) and isinstance(outer, str) and outer:
                failure = Failure(_bounded(outer, _LONGEST_MESSAGE), code=_name(inner))
            return failure if failure.type or key != "error" else replace(failure, type=_type(said))
    return _object(said, depth)


def _object(said: dict[str, Any], depth: int) -> Failure:
    message = said.get("message") or said.get("Message") or said.get("msg")
    inner = _failure(message, depth - 1)  # most often a text; Mistral's may be an object
    text = inner.message
    # OpenRouter: "Provider returned error", and the provider's own words, JSON or not, in the metadata.
    metadata = said.get("metadata")
    raw = metadata.get("raw") if isinstance(metadata, dict) else None
    if isinstance(raw, str) and raw and len(raw) <= _LARGEST_BODY:
        own = _json(raw.encode("utf-8", "replace"))
        words = _failure(own, depth - 1).message if own is not None else _line(raw)
        text = f"{text}: {words}" if text and words else text or words
    place = said.get("loc")  # FastAPI's path to the field at fault
    param = ".".join(map(str, place[:8])) if isinstance(place, list) else said.get("param")
    return Failure(_bounded(text, _LONGEST_MESSAGE), _type(said), _code(said), _name(param), _status(said))


def _type(said: dict[str, Any]) -> str:
    kind = _name(said.get("type"))
    return "" if kind == "error" else kind


def _code(said: dict[str, Any]) -> str:
    """Its own code, else Google's `status`, AWS's `__type` or Anthropic's details. A code that only repeats an HTTP
    status says nothing new."""
    code = said.get("code")
    if isinstance(code, str) and code and not (code.isdigit() and len(code) == 3):
        return _name(code)
    if isinstance(code, int) and not isinstance(code, bool) and not 100 <= code < 600:
        return _name(str(code))
    details = said.get("details")
    if isinstance(details, dict) and (named := _name(details.get("error_code"))):
        return named
    amazon = _name(said.get("__type")).rpartition("#")[2]
    return _name(said.get("status")) or amazon


def _status(said: dict[str, Any]) -> int:
    for value in (said.get("code"), said.get("status")):
        if isinstance(value, int) and 400 <= value < 600:
            return value
        if isinstance(value, str) and len(value) == 3 and value.isascii() and value.isdigit() and value[0] in "45":
            return int(value)
    return 0


def _page(text: str) -> str:
    """What an error page calls itself: its title, else its first heading."""
    lower = text.lower()
    for tag in ("title", "h1"):
        start = lower.find(f"<{tag}")
        start = text.find(">", start) + 1 if start >= 0 else 0
        end = lower.find("<", start) if start else -1
        if end > start and (title := _line(text[start:end])):
            return f"The provider answered with a web page: {title}"
    return "The provider answered with a web page."


def _line(text: str) -> str:
    """As one line, without control characters."""
    words = "".join(char if char.isprintable() else " " for char in text[: 4 * _LONGEST_MESSAGE])
    return _bounded(" ".join(words.split()), _LONGEST_MESSAGE)


def _name(value: object) -> str:
    return _bounded(value, _LONGEST_NAME) if isinstance(value, str) else ""


def _bounded(text: str, most: int) -> str:
    """At most so many characters, and nothing that UTF-8 cannot hold."""
    if len(text) > most:
        text = text[: most - 1] + "…"
    return text if text.isascii() else text.encode("utf-8", "replace").decode()
